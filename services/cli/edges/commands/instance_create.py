"""`stead instance create`: one, or many in one call."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from stead.v1 import instance_pb2, instance_pb2_grpc

from services.cli.edges import named
from services.cli.edges.api import Api, as_json, connected, new_request_id
from services.cli.edges.commands import completing
from services.cli.edges.commands.flags import (
    WAIT_S,
    DryRunFlag,
    OutputFlag,
    TimeoutFlag,
    WaitFlag,
    around,
)
from services.cli.edges.commands.waiting import CODE_NAMES, wait_all
from services.cli.edges.commands.wishes import Manner, carry_out, tell_dry_run
from services.cli.edges.files import bytes_of
from services.cli.edges.terminal import Output, end_line, say, show_many, show_one
from services.cli.logic.conditions import one_of
from services.cli.logic.labels import labels_of
from services.cli.logic.public_keys import keys_in
from services.cli.logic.refusal import Refusal, refusal_of
from services.cli.logic.words import counted
from services.domain.errors import Invalid, Unavailable

COUNT_MAX = 1000
CALL_S = 120.0
# As many as a filter has room for.
CONDITION_IDS_MAX = 24
TOLD_MAX = 10

FlavorFlag = Annotated[
    str,
    typer.Option(
        metavar="FLAVOR",
        help="Its size: name or id of a flavor.",
        autocompletion=completing.flavors,
    ),
]
KeyFlag = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEYPAIR",
        help="Who may log in as root: name or id of a key pair; as often as wanted.",
        autocompletion=completing.key_pairs,
    ),
]
LabelFlag = Annotated[
    list[str] | None, typer.Option(metavar="KEY=VALUE", help="As often as wanted.")
]


def create(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Its name, unique among the project's instances.")
    ],
    flavor: FlavorFlag,
    image: Annotated[
        str,
        typer.Option(
            metavar="IMAGE",
            help="What it starts from: name or id of an image.",
            autocompletion=completing.images,
        ),
    ],
    count: Annotated[
        int | None,
        typer.Option(
            min=1, max=COUNT_MAX, metavar="N", help="As many in one call: NAME-1 to NAME-N."
        ),
    ] = None,
    key: KeyFlag = None,
    ssh_key: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Public keys of a file, in the same way."),
    ] = None,
    label: LabelFlag = None,
    user_data: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Handed to the guest as it is.")
    ] = None,
    wait: WaitFlag = False,
    timeout: TimeoutFlag = WAIT_S,
    dry_run: DryRunFlag = False,
    output: OutputFlag = Output.TABLE,
) -> None:
    """Asks for an instance. With --wait it returns when the instance is ACTIVE.

    With --count each has its own result: what was made is shown, and the exit code is that of the
    first that was refused.
    """
    manner = Manner(output, dry_run, wait, timeout)
    new = instance_pb2.NewInstance(
        name=name,
        labels=labels_of(label or []),
        ssh_public_keys=[key for file in ssh_key or [] for key in keys_in(bytes_of(file))],
        user_data=bytes_of(user_data) if user_data else b"",
    )
    with connected(around()) as api:
        new.flavor_id = named.flavor_id(api, flavor, missing=Invalid)
        new.image_id = named.image_id(api, image, missing=Invalid)
        new.key_pair_ids.extend(named.key_pair_id(api, k, missing=Invalid) for k in key or [])
        if count:
            _create_many(api, new, count, manner)
        else:
            show_one(create_one(api, new, manner), output)


def create_one(api: Api, new: instance_pb2.NewInstance, manner: Manner) -> dict[str, Any]:
    """The JSON of one new instance. Raises Refusal, Unavailable."""
    request = instance_pb2.CreateInstanceRequest(
        name=new.name,
        flavor_id=new.flavor_id,
        image_id=new.image_id,
        labels=dict(new.labels),
        ssh_public_keys=new.ssh_public_keys,
        user_data=new.user_data,
        key_pair_ids=new.key_pair_ids,
    )
    stub = instance_pb2_grpc.InstanceServiceStub(api.channel)
    return carry_out(api, stub.CreateInstance, request, what=f"create {new.name}", manner=manner)


def _create_many(api: Api, new: instance_pb2.NewInstance, count: int, manner: Manner) -> None:
    request = instance_pb2.BatchCreateInstancesRequest(
        request_id=new_request_id(), validate_only=manner.dry_run
    )
    for number in range(1, count + 1):
        request.instances.add().CopyFrom(new)
        request.instances[-1].name = f"{new.name}-{number}"
    stub = instance_pb2_grpc.InstanceServiceStub(api.channel)
    answer = api.call(stub.BatchCreateInstances, request, timeout_s=CALL_S)
    made = [r.created for r in answer.results if r.WhichOneof("result") == "created"]
    if manner.dry_run:
        tell_dry_run(manner.output)
    _tell_refused(request, answer, manner.output)
    rows = [as_json(created.instance) for created in made]
    failed = None
    try:
        if manner.wait and not manner.dry_run:
            failed = _see_through(api, made, manner)
            rows = _as_they_are(api, [row["id"] for row in rows])
    finally:
        # Whatever ended the wait: these were made.
        show_many("instance", rows, manner.output)
    refusal = _first_refused(request, answer) or failed
    if refusal is not None:
        raise refusal


def _see_through(api: Api, made: Sequence[Any], manner: Manner) -> Refusal | None:
    operations = [as_json(created.operation) for created in made]
    what = f"create {counted(len(made), 'instance')}"
    try:
        return wait_all(api, operations, what=what, timeout_s=manner.timeout_s)
    except Unavailable as late:
        end_line()
        return refusal_of(late)


def _as_they_are(api: Api, ids: Sequence[str]) -> list[dict[str, Any]]:
    method = instance_pb2_grpc.InstanceServiceStub(api.channel).ListInstances
    rows: list[dict[str, Any]] = []
    for begin in range(0, len(ids), CONDITION_IDS_MAX):
        request = instance_pb2.ListInstancesRequest(
            filter=one_of("id", ids[begin : begin + CONDITION_IDS_MAX])
        )
        rows += named.all_as_json(api, method, request, "instances")
    return rows


def _tell_refused(
    request: instance_pb2.BatchCreateInstancesRequest,
    answer: instance_pb2.BatchCreateInstancesResponse,
    output: Output,
) -> None:
    if output is Output.JSON:
        return
    refused = _refused(request, answer)
    for name, error in refused[:TOLD_MAX]:
        say(f"{name} is refused: {error.message} ({error.reason})")
    if len(refused) > TOLD_MAX:
        say(f"and {len(refused) - TOLD_MAX} more")


def _refused(
    request: instance_pb2.BatchCreateInstancesRequest,
    answer: instance_pb2.BatchCreateInstancesResponse,
) -> list[tuple[str, Any]]:
    return [
        (wish.name, result.error)
        for wish, result in zip(request.instances, answer.results, strict=True)
        if result.WhichOneof("result") == "error"
    ]


def _first_refused(
    request: instance_pb2.BatchCreateInstancesRequest,
    answer: instance_pb2.BatchCreateInstancesResponse,
) -> Refusal | None:
    refused = _refused(request, answer)
    if not refused:
        return None
    (name, error), total = refused[0], len(request.instances)
    words = f"{counted(len(refused), 'instance')} of {total} refused: {name}: {error.message}"
    counts = {"refused": str(len(refused)), "accepted": str(total - len(refused))}
    code = CODE_NAMES.get(error.code, "UNKNOWN")
    return Refusal(code, error.reason, words, {**dict(error.metadata), **counts})
