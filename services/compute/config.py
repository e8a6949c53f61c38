"""What compute reads from its environment: STEAD_COMPUTE_…, and what all services share."""

import socket
from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.domain.ids import HOST_ID
from services.domain.resources import Overcommit, Resources
from services.runtime.settings import ServiceSettings


def host_name() -> str:
    """This machine's name as a host id."""
    return socket.gethostname().partition(".")[0].lower()


class Settings(ServiceSettings):
    """One process: one host, or `fake_hosts` of them under the fake driver.

    With `start_without_view` guests that ran when the machine went down are started after its boot
    though the control plane is not there to say so; never set it where disks are shared.
    """

    model_config = SettingsConfigDict(env_prefix="STEAD_COMPUTE_", frozen=True, extra="ignore")

    api: str = Field(pattern=r"^[^,\s]+(,[^,\s]+)*$")
    driver: Literal["fake", "qemu", "kvm", "libvirt"]
    host_id: str = Field(default_factory=host_name, pattern=HOST_ID.pattern)
    state_dir: Path
    libvirt_uri: str = "qemu:///system"
    steps_max: int = Field(default=8, ge=1)
    beat_s: float = Field(default=15.0, gt=0)
    start_without_view: bool = False

    reserved_vcpus: int = Field(default=0, ge=0)
    reserved_memory_mib: int = Field(default=0, ge=0)
    reserved_disk_gib: int = Field(default=0, ge=0)
    overcommit_vcpus_permille: int = Field(default=Overcommit().vcpus_permille, ge=1)
    overcommit_memory_permille: int = Field(default=Overcommit().memory_permille, ge=1)
    overcommit_disk_permille: int = Field(default=Overcommit().disk_permille, ge=1)

    fake_hosts: int = Field(default=1, ge=1, le=10_000)
    fake_delay_s: float = Field(default=0.0, ge=0)
    fake_fail_every: int = Field(default=0, ge=0)
    fake_vcpus: int = Field(default=64, ge=1)
    fake_memory_mib: int = Field(default=262_144, ge=1)
    fake_disk_gib: int = Field(default=4096, ge=1)

    def api_targets(self) -> list[str]:
        """The replicas of api, in the order in which they are turned to."""
        return self.api.split(",")

    def host_ids(self) -> list[str]:
        """The hosts of this process: the id itself, or numbered ones where there are several."""
        if self.driver != "fake" or self.fake_hosts == 1:
            return [self.host_id]
        return [f"{self.host_id}-{number:04}" for number in range(self.fake_hosts)]

    def reserved(self) -> Resources:
        """What is kept back for the machine itself."""
        return Resources(self.reserved_vcpus, self.reserved_memory_mib, self.reserved_disk_gib)

    def overcommit(self) -> Overcommit:
        """By how much resources may be promised more than once."""
        return Overcommit(
            self.overcommit_vcpus_permille,
            self.overcommit_memory_permille,
            self.overcommit_disk_permille,
        )

    def fake_capacity(self) -> Resources:
        """What each fake host has."""
        return Resources(self.fake_vcpus, self.fake_memory_mib, self.fake_disk_gib)

    def reconnect_s_max(self) -> float:
        """The longest wait before an agent dials again: 2 s, more where thousands would dial at
        once.
        """
        return max(2.0, len(self.host_ids()) / 200)
