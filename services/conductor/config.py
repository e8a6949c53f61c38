"""Settings of the conductor: STEAD_CONDUCTOR_…"""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.domain.resources import QuotaAmounts
from services.runtime.settings import ServiceSettings


class Settings(ServiceSettings):
    """`listen` is the gRPC target for api and scheduler, `postgres_url` the database.

    The change log is kept for `log_keep_s`, unless it outgrows `log_bytes_max`. `quota_…` are the
    limits of projects that have none of their own, -1 for no limit.
    """

    model_config = SettingsConfigDict(env_prefix="STEAD_CONDUCTOR_", frozen=True, extra="ignore")

    listen: str
    postgres_url: str
    log_keep_s: float = 3600.0
    log_bytes_max: int = 1 << 30
    quota_instances: int = Field(-1, ge=-1)
    quota_vcpus: int = Field(-1, ge=-1)
    quota_memory_mib: int = Field(-1, ge=-1)
    quota_disk_gib: int = Field(-1, ge=-1)

    def usual_limits(self) -> QuotaAmounts:
        """What a project may have that nobody has limited."""
        return QuotaAmounts(
            self.quota_instances, self.quota_vcpus, self.quota_memory_mib, self.quota_disk_gib
        )
