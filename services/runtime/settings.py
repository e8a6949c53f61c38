"""Settings that every service reads from its environment: STEAD_<SERVICE>_<SETTING>, a few shared
names, and files.

Secrets come from files, never from argv.
"""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class ServiceSettings(BaseSettings):
    """What all services share. A service's config.py adds its own under its prefix."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    cloud_id: str = Field(validation_alias="STEAD_CLOUD_ID", pattern=r"^[0-9a-f]{8,32}$")
    nats_url: str = Field(validation_alias="STEAD_NATS_URL")
    nats_credential_file: Path | None = Field(
        default=None, validation_alias="STEAD_NATS_CREDENTIAL_FILE"
    )
    admin_listen: str = "127.0.0.1:0"

    def nats_credential(self) -> tuple[str, str] | None:
        """User and password, from a file that holds `USER:PASSWORD` on its first line."""
        if self.nats_credential_file is None:
            return None
        user, _, password = self.nats_credential_file.read_text().strip().partition(":")
        return user, password
