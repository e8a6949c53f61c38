"""What this machine has for guests, asked of its kernel."""

import os
from pathlib import Path

from services.domain.resources import Resources

MIB = 1 << 20
GIB = 1 << 30


def capacity(state_dir: Path) -> Resources:
    """Processors, all memory, and the disk under `state_dir` without what only root may fill."""
    memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    disk = os.statvfs(state_dir)
    used = disk.f_blocks - disk.f_bfree
    return Resources(
        vcpus=os.cpu_count() or 1,
        memory_mib=memory_bytes // MIB,
        disk_gib=(disk.f_bavail + used) * disk.f_frsize // GIB,
    )
