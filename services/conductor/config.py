"""Settings of the conductor: STEAD_CONDUCTOR_…"""

import shlex
from typing import Annotated

from pydantic import BeforeValidator, Field
from pydantic_settings import NoDecode, SettingsConfigDict

from services.conductor.logic.paces import USUAL_PACES, Paces
from services.conductor.logic.step_table import USUAL_DEADLINES, Deadlines
from services.domain.resources import QuotaAmounts
from services.runtime.settings import ServiceSettings

# Callers may rely on it. Source: MECHANICS B6.
REQUEST_KEEP_S = 7 * 86_400.0


def _words(command: object) -> object:
    return tuple(shlex.split(command)) if isinstance(command, str) else command


class Settings(ServiceSettings):
    """`listen` is the gRPC target for api and scheduler, `postgres_url` the database.

    The change log is kept for `log_keep_s`, unless it outgrows `log_bytes_max`. `quota_…` are the
    limits of projects that have none of their own, -1 for no limit. `deadline_…_s` is how long a
    phase of an operation may last; `request_keep_s` how long a request id is remembered, at least
    7 days.

    What a lost message costs: a request for a host `place_again_s`, a command `look_again_s` while
    its operation is younger than `young_s` (then doubling up to `look_again_most_s`; a beat of the
    host makes up for it before that), a change a little more than `head_every_s`.

    A host that is not heard for `lease_s` is not UP; three times the pause between its beats.
    `fence_program` is the operator's own: fixed words, as a shell splits them (with quotes, without
    variables), to which the host's id is added; it must
    make sure within `fence_timeout_s` that the host runs nothing, and end with 0 only then.
    """

    model_config = SettingsConfigDict(env_prefix="STEAD_CONDUCTOR_", frozen=True, extra="ignore")

    listen: str
    postgres_url: str
    log_keep_s: float = 3600.0
    log_bytes_max: int = 1 << 30
    lease_s: float = Field(45.0, ge=1.0)
    fence_program: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)] = ()
    fence_timeout_s: float = Field(60.0, gt=0)
    deadline_placing_s: float = Field(USUAL_DEADLINES.placing_s, gt=0)
    deadline_building_s: float = Field(USUAL_DEADLINES.building_s, gt=0)
    deadline_removing_s: float = Field(USUAL_DEADLINES.removing_s, gt=0)
    deadline_switching_s: float = Field(USUAL_DEADLINES.switching_s, gt=0)
    place_again_s: float = Field(USUAL_PACES.place_s, gt=0)
    look_again_s: float = Field(USUAL_PACES.first_s, gt=0)
    look_again_most_s: float = Field(USUAL_PACES.most_s, gt=0)
    young_s: float = Field(USUAL_PACES.young_s, ge=0)
    head_every_s: float = Field(1.0, gt=0)
    request_keep_s: float = Field(REQUEST_KEEP_S, ge=REQUEST_KEEP_S)
    quota_instances: int = Field(-1, ge=-1)
    quota_vcpus: int = Field(-1, ge=-1)
    quota_memory_mib: int = Field(-1, ge=-1)
    quota_disk_gib: int = Field(-1, ge=-1)

    def usual_limits(self) -> QuotaAmounts:
        """What a project may have that nobody has limited."""
        return QuotaAmounts(
            self.quota_instances, self.quota_vcpus, self.quota_memory_mib, self.quota_disk_gib
        )

    def paces(self) -> Paces:
        """How soon what may have been lost is said again."""
        return Paces(self.place_again_s, self.look_again_s, self.look_again_most_s, self.young_s)

    def deadlines(self) -> Deadlines:
        """How long each phase of an operation may last."""
        return Deadlines(
            self.deadline_placing_s,
            self.deadline_building_s,
            self.deadline_removing_s,
            self.deadline_switching_s,
        )
