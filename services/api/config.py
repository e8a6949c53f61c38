"""Settings of the service api: STEAD_API_*."""

import secrets
from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.runtime.settings import ServiceSettings


class Settings(ServiceSettings):
    """Read once, in __main__.

    `listen` is for users, `ingress_listen` for computes, `ingress_endpoint` is where computes reach
    the latter. `page_key_file` holds the secret under which tokens of pages and watches are sealed;
    replicas share it. `drain_delay_s` is how long a replica that ends goes on serving after it has
    said so, for those who choose by health; a client's connection takes calls for
    `connection_age_s`, 0 for ever, and those under way then have `connection_age_grace_s`.
    """

    model_config = SettingsConfigDict(env_prefix="STEAD_API_", frozen=True, extra="ignore")

    listen: str = "127.0.0.1:8774"
    ingress_listen: str
    ingress_endpoint: str = ""
    conductor: str
    token_key_file: Path
    image_dir: Path
    page_key_file: Path | None = None
    watch_buffer_bytes: int = 16 * 1024 * 1024
    drain_delay_s: float = Field(default=0.0, ge=0.0, le=3600.0)
    connection_age_s: int = Field(default=1800, ge=0, le=7 * 86400)
    connection_age_grace_s: int = Field(default=86400, ge=1, le=7 * 86400)

    def page_key(self) -> bytes:
        """The secret from its file, or one that lasts as long as this process."""
        if self.page_key_file is None:
            return secrets.token_bytes(32)
        return self.page_key_file.read_bytes()
