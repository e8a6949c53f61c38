"""The flags of `stead up`. None stands for a flag that was not given."""

from typing import Annotated

import typer

from services.cli.logic.options import DRIVERS

DetachFlag = Annotated[
    bool, typer.Option("--detach", help="Return when the cloud is up; it goes on by itself.")
]
DriverFlag = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help=f"What runs guests: {', '.join(DRIVERS)}; as often as wanted. [libvirt]",
    ),
]
ListenFlag = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT", envvar="STEAD_API_LISTEN", help="Where api listens. [127.0.0.1:8774]"
    ),
]
PostgresFlag = Annotated[
    str | None,
    typer.Option(metavar="URL", envvar="STEAD_CONDUCTOR_POSTGRES_URL", help="Your own PostgreSQL."),
]
NatsFlag = Annotated[
    str | None, typer.Option(metavar="URL", envvar="STEAD_NATS_URL", help="Your own NATS.")
]
LibvirtFlag = Annotated[
    str | None,
    typer.Option(metavar="URI", envvar="STEAD_COMPUTE_LIBVIRT_URI", help="Your own libvirtd."),
]
ApiReplicasFlag = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="How many api processes; the first listens at --listen, the others on free ports "
        "(`stead status`). [1]",
    ),
]
FakeHostsFlag = Annotated[
    int | None, typer.Option(metavar="N", help="How many hosts the fake driver stands for. [1]")
]
