"""The settings of scheduler: STEAD_SCHEDULER_<NAME>, read once at the start."""

from pydantic import FiniteFloat
from pydantic_settings import SettingsConfigDict

from services.runtime.settings import ServiceSettings


class Settings(ServiceSettings):
    """`conductor` is a gRPC target.

    A positive weight spreads instances by that resource, a negative one packs them.
    """

    model_config = SettingsConfigDict(env_prefix="STEAD_SCHEDULER_", frozen=True, extra="ignore")

    conductor: str
    weight_cpu: FiniteFloat = 1.0
    weight_ram: FiniteFloat = 1.0
    weight_disk: FiniteFloat = 1.0
