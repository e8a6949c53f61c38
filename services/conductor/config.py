"""Settings of the conductor: STEAD_CONDUCTOR_…"""

from pydantic_settings import SettingsConfigDict

from services.runtime.settings import ServiceSettings


class Settings(ServiceSettings):
    """`listen` is the gRPC target for api and scheduler, `postgres_url` the database."""

    model_config = SettingsConfigDict(env_prefix="STEAD_CONDUCTOR_", frozen=True, extra="ignore")

    listen: str
    postgres_url: str
