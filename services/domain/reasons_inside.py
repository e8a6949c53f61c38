"""The reasons that hosts tell about guests, and those that the parts of a cloud tell each other."""

from services.domain.reason import Code, Met, Reason

_FAILED = (Code.INTERNAL,)
_AGAIN = (Code.UNAVAILABLE,)


def _host(name: str, meaning: str, remedy: str, codes: tuple[Code, ...] = _FAILED) -> Reason:
    return Reason(name, Met.HOST, codes, meaning, remedy)


def _inside(name: str, codes: tuple[Code, ...], meaning: str, remedy: str) -> Reason:
    return Reason(name, Met.INSIDE, codes, meaning, remedy)


HOSTS = (
    _host(
        "GUEST_LOST",
        "The guest is gone, though nobody asked for that.",
        "See the host's log; delete the instance and create it again.",
    ),
    _host(
        "GUEST_ENDS_AT_ONCE",
        "The guest is started and does not stay on.",
        "See its console's log: its image may not boot.",
    ),
    _host(
        "GUEST_IN_THE_WAY",
        "An older guest of the instance is in its place.",
        "See the host: what is there belongs to an earlier claim.",
    ),
    _host(
        "GUEST_OF_OTHER_CLAIM",
        "What stands there belongs to another claim of the instance.",
        "As for GUEST_IN_THE_WAY.",
        (Code.ABORTED,),
    ),
    _host(
        "GUEST_NOT_FOUND",
        "The hypervisor has no such guest.",
        "Nothing: the host makes it again where it is wanted.",
        (Code.NOT_FOUND,),
    ),
    _host(
        "GUEST_RUNS",
        "The guest runs, and must be off for this.",
        "Nothing: the host switches it off first.",
        (Code.ABORTED,),
    ),
    _host(
        "CONSOLES_FULL",
        "The host serves as many consoles as it can; a caller of the api hears LANE_FULL.",
        "Close consoles of its guests that nobody reads.",
        (Code.RESOURCE_EXHAUSTED,),
    ),
    _host(
        "GUEST_UNSUPPORTED",
        "The hypervisor cannot make such a guest.",
        "Choose another flavor or image.",
    ),
    _host(
        "ARCHITECTURE_UNSUPPORTED",
        "The host has no emulator for the image's processors.",
        "Install one, or choose another image.",
    ),
    _host(
        "MEMORY_NOT_KEPT",
        "Nothing is kept of the guest's memory from which it could go on.",
        "Boot it anew: reboot it at once (REBOOT_KIND_HARD).",
    ),
    _host(
        "HYPERVISOR_REFUSED",
        "The hypervisor refused the guest; its words follow.",
        "See the host's log.",
    ),
    _host(
        "HYPERVISOR_UNREACHABLE",
        "The connection to the hypervisor is closed, or it does not answer.",
        "See whether it runs; the host connects again by itself.",
        _AGAIN,
    ),
    _host(
        "DISK_NOT_MADE",
        "The guest's disk could not be made.",
        "See the host's log.",
    ),
    _host(
        "IMAGE_CORRUPT",
        "The fetched bytes have another SHA-256 than the image's.",
        "See the image store's disk; import the image again.",
    ),
    _host(
        "FAKE_FAILURE",
        "The fake driver was told to fail.",
        "Nothing: it was told to.",
    ),
)
INSIDE = (
    _inside(
        "SUPERSEDED",
        (Code.ABORTED,),
        "Another agent of this host is live.",
        "Nothing: the older agent ends.",
    ),
    _inside(
        "HOST_IDENTITY_IN_USE",
        (Code.ABORTED,),
        "Another machine has this host id, and its lease is live.",
        "Give this machine a host id of its own; one in an old one's place waits for the lease.",
    ),
    _inside(
        "HOST_ID_INVALID",
        (Code.INVALID_ARGUMENT,),
        "A host's id is not 1 to 63 of a-z, 0-9 and dash.",
        "Set STEAD_COMPUTE_HOST_ID.",
    ),
    _inside(
        "HELLO_INVALID",
        (Code.INVALID_ARGUMENT,),
        "What a host says of itself is out of bounds.",
        "See the host's settings: reserved amounts and overcommit.",
    ),
    _inside(
        "HOST_SILENT",
        _AGAIN,
        "Nothing was heard of the host for longer than three beats.",
        "See the network between it and api; it connects again.",
    ),
    _inside(
        "HYPERVISOR_AWAY",
        _AGAIN,
        "A host cannot say what it has, as its hypervisor does not answer.",
        "See the hypervisor; the host tries again.",
    ),
    _inside(
        "TICKET_UNKNOWN",
        (Code.NOT_FOUND,),
        "Nobody waits for this answer of a host any more.",
        "Nothing: the one who asked has gone.",
    ),
    _inside(
        "BLOB_NOT_FOUND",
        (Code.NOT_FOUND,),
        "No claim of this host names such bytes, or they are gone.",
        "See whether the image is still there.",
    ),
    _inside(
        "STREAM_ENDED",
        _AGAIN,
        "The control plane ended the host's stream.",
        "Nothing: the host connects again.",
    ),
    _inside(
        "VIEW_MISSING",
        _FAILED,
        "The first answer to a host was not its view.",
        "Run the same release everywhere.",
    ),
    _inside(
        "VIEW_OF_ANOTHER",
        _FAILED,
        "A host got the view of another cloud or host.",
        "See STEAD_CLOUD_ID and where STEAD_COMPUTE_API leads.",
    ),
    _inside(
        "TELLING_UNKNOWN",
        _FAILED,
        "A host was told something that it does not know.",
        "Run the same release everywhere.",
    ),
    _inside(
        "QUESTION_UNKNOWN",
        _FAILED,
        "A host was asked something that it does not know.",
        "Run the same release everywhere.",
    ),
    _inside(
        "WISH_MISSING",
        (Code.INVALID_ARGUMENT,),
        "The conductor got a mutation that it does not know.",
        "Run the same release everywhere.",
    ),
    _inside(
        "ROUND_MISSING",
        (Code.INVALID_ARGUMENT,),
        "The conductor got a round of a conversation that it does not know.",
        "Run the same release everywhere.",
    ),
    _inside(
        "HISTORY_CHANGED",
        _AGAIN,
        "The change log begins anew: the database was restored.",
        "Nothing: whoever follows it begins anew too.",
    ),
    _inside(
        "DRIVER_UNKNOWN",
        (Code.INVALID_ARGUMENT,),
        "There is no driver of that name.",
        "Set STEAD_COMPUTE_DRIVER to one that the message names.",
    ),
    _inside(
        "KVM_UNUSABLE",
        _AGAIN,
        "KVM was asked for and runs no guests here.",
        "See the message; `libvirt` takes QEMU instead.",
    ),
    _inside(
        "CLOUD_MISMATCH",
        _FAILED,
        "The database belongs to another cloud.",
        "Set STEAD_CLOUD_ID or STEAD_CONDUCTOR_POSTGRES_URL.",
    ),
    _inside(
        "SCHEMA_NEWER",
        _FAILED,
        "The database was written by a newer stead.",
        "Run that release.",
    ),
    _inside(
        "SCHEMA_CHANGED",
        _FAILED,
        "A migration that was applied differs from the one of this release.",
        "Run the release that applied it; migrations are never edited.",
    ),
)
