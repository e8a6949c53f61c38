"""Kinds of things that placement and drivers compare. Numbers of the enums are those of the public
contract.
"""

from enum import IntEnum


class ImageKind(IntEnum):
    """How the bytes of an image are to be read."""

    QCOW2 = 1
    RAW = 2
    KERNEL = 3


class Architecture(IntEnum):
    """For which processors something is."""

    X86_64 = 1
    AARCH64 = 2


class Hypervisor(IntEnum):
    """What runs the guests of a host."""

    FAKE = 1
    QEMU = 2
    KVM = 3


class HostState(IntEnum):
    """Whether a host is heard of. UNKNOWN: it is not, and that may not be its own fault."""

    UP = 1
    DOWN = 2
    UNKNOWN = 3


class FenceKind(IntEnum):
    """How it is known that a host runs nothing any more."""

    VOUCHED = 1
    DRIVER = 2


class ResourceKind(IntEnum):
    """The nouns that have rows and a place in the change log."""

    INSTANCE = 1
    OPERATION = 2
    FLAVOR = 3
    IMAGE = 4
    HOST = 5
    PROJECT = 6
    KEY_PAIR = 7


class ListOrder(IntEnum):
    """By what a list is ordered; ties are broken by id, whose order is that of creation."""

    ID = 1
    NAME = 2


class ClaimRole(IntEnum):
    """What a claim stands for; at most one HOLDER and one INCOMING per instance."""

    HOLDER = 1
    INCOMING = 2
    LEAVING = 3
