"""`stead instance`: create, list, show, delete, console, watch."""

import time
from pathlib import Path
from typing import Annotated

import typer
from stead.v1 import instance_pb2, instance_pb2_grpc

from services.cli.edges import named
from services.cli.edges.api import Api, as_json, connected, new_request_id
from services.cli.edges.commands.flags import (
    WAIT_S,
    AllProjectsFlag,
    InstanceWord,
    OutputFlag,
    TimeoutFlag,
    WaitFlag,
    around,
    group,
)
from services.cli.edges.commands.waiting import wait_done
from services.cli.edges.terminal import Output, say, show_line, show_many, show_one, show_text
from services.cli.logic.refusal import Exit, Refusal
from services.cli.logic.tables import clean, word
from services.domain.errors import Invalid, Unavailable

app = group("Machines: ask for them, look at them, let them go.")
RECONNECTS_MAX = 60
STATES = [word(name) for name in instance_pb2.InstanceState.keys()[1:]]


def _stub(api: Api) -> instance_pb2_grpc.InstanceServiceStub:
    return instance_pb2_grpc.InstanceServiceStub(api.channel)


@app.command("create")
def create(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Its name, unique among the project's instances.")
    ],
    flavor: Annotated[
        str, typer.Option(metavar="FLAVOR", help="Its size: name or id of a flavor.")
    ],
    image: Annotated[
        str, typer.Option(metavar="IMAGE", help="What it starts from: name or id of an image.")
    ],
    label: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="As often as wanted.")
    ] = None,
    ssh_key: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Public keys for root; as often as wanted."),
    ] = None,
    user_data: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Handed to the guest as it is.")
    ] = None,
    wait: WaitFlag = False,
    timeout: TimeoutFlag = WAIT_S,
    output: OutputFlag = Output.TABLE,
) -> None:
    """Asks for an instance. With --wait it returns when the instance is ACTIVE.

    Example: stead instance create web --flavor tiny --image stead-guest --wait
    """
    labels, keys, words = _labels(label or []), _keys(ssh_key or []), _bytes_of(user_data)
    with connected(around()) as api:
        request = instance_pb2.CreateInstanceRequest(
            request_id=new_request_id(),
            name=name,
            flavor_id=named.flavor_id(api, flavor, missing=Invalid),
            image_id=named.image_id(api, image, missing=Invalid),
            labels=labels,
            ssh_public_keys=keys,
            user_data=words,
        )
        answer = api.call(_stub(api).CreateInstance, request)
        instance = as_json(answer.instance)
        if wait:
            wait_done(
                api,
                as_json(answer.operation),
                what=f"create {name}",
                timeout_s=timeout,
                output=output,
            )
            # The same id again: the same instance, as it is now.
            instance = as_json(api.call(_stub(api).CreateInstance, request).instance)
        show_one(instance, output)


@app.command("list")
def list_all(all_projects: AllProjectsFlag = False, output: OutputFlag = Output.TABLE) -> None:
    """Lists the living instances of the project."""
    with connected(around()) as api:
        request = instance_pb2.ListInstancesRequest(all_projects=all_projects)
        rows = named.all_as_json(api, _stub(api).ListInstances, request, "instances")
    show_many("instance", rows, output)


@app.command("show")
def show(instance: InstanceWord, output: OutputFlag = Output.TABLE) -> None:
    """Shows all that is known of one instance."""
    with connected(around()) as api:
        request = instance_pb2.GetInstanceRequest(id=named.instance_id(api, instance))
        show_one(as_json(api.call(_stub(api).GetInstance, request).instance), output)


@app.command("delete")
def delete(
    instance: InstanceWord,
    wait: WaitFlag = False,
    timeout: TimeoutFlag = WAIT_S,
    output: OutputFlag = Output.TABLE,
) -> None:
    """Deletes an instance with its disk. With --wait it returns when nothing of it is left."""
    with connected(around()) as api:
        request = instance_pb2.DeleteInstanceRequest(
            request_id=new_request_id(), id=named.instance_id(api, instance)
        )
        answer = api.call(_stub(api).DeleteInstance, request)
        gone = as_json(answer.instance)
        if wait:
            wait_done(
                api,
                as_json(answer.operation),
                what=f"delete {instance}",
                timeout_s=timeout,
                output=output,
            )
            gone = as_json(api.call(_stub(api).DeleteInstance, request).instance)
        show_one(gone, output)


@app.command("console")
def console(
    instance: InstanceWord,
    log: Annotated[bool, typer.Option("--log", help="Print what the guest wrote.")] = False,
    max_bytes: Annotated[
        int, typer.Option(min=1, max=1048576, metavar="N", help="How much from the end.")
    ] = 65536,
    output: OutputFlag = Output.TABLE,
) -> None:
    """Reads the serial console.

    Example: stead instance console web --log
    """
    if not log:
        raise Invalid("INVALID_FIELD", "only --log is there: what the guest wrote", field="--log")
    with connected(around()) as api:
        request = instance_pb2.GetConsoleOutputRequest(
            id=named.instance_id(api, instance), max_bytes=max_bytes
        )
        answer = api.call(_stub(api).GetConsoleOutput, request)
    if output is Output.JSON:
        show_one(as_json(answer), output)
    else:
        show_text(answer.output)


@app.command("watch")
def watch(
    instance: Annotated[
        str, typer.Argument(metavar="INSTANCE", help="Name or id; all of the project if left out.")
    ] = "",
    all_projects: AllProjectsFlag = False,
    until: Annotated[
        str, typer.Option(metavar="STATE", help="End when INSTANCE is in this state: ACTIVE.")
    ] = "",
    output: OutputFlag = Output.TABLE,
) -> None:
    """Shows what is there, then every change.

    It ends when interrupted, or with --until; exit code 1 if that state cannot come any more.

    With --output json each event is one object on a line.
    """
    if until and not instance:
        raise Invalid("INVALID_FIELD", "--until needs an instance", field="--until")
    if until and until.upper() not in STATES:
        words = f'no state "{until}"; there are {", ".join(STATES)}'
        raise Invalid("INVALID_FIELD", words, field="--until")
    with connected(around()) as api:
        request = instance_pb2.WatchInstancesRequest(all_projects=all_projects)
        for _ in range(RECONNECTS_MAX):
            try:
                if _follow(api, request, (instance, until), output):
                    return
            except Refusal as refusal:
                if refusal.code != "UNAVAILABLE":
                    raise
            # Cut off: the next try opens with a snapshot of what was missed.
            time.sleep(0.5)
    raise Unavailable("PEER_UNREACHABLE", "the watch was cut off again and again")


def _follow(
    api: Api,
    request: instance_pb2.WatchInstancesRequest,
    wanted: tuple[str, str],
    output: Output,
) -> bool:
    word_of, until = wanted
    found = not word_of
    for event in api.stream(_stub(api).WatchInstances, request):
        which = event.WhichOneof("event")
        seen = event.existing if which == "existing" else event.change.instance
        about = which != "snapshot_done"
        if about and word_of and word_of not in (seen.id, seen.name):
            continue
        found = found or about
        if not found and output is Output.TABLE:
            say(f'there is no instance "{word_of}" yet; waiting for it')
        if output is Output.JSON:
            show_line(as_json(event))
        elif about:
            print(_sentence(as_json(seen), event.revision), flush=True)
        if about and until and _is_there(as_json(seen), until.upper()):
            return True
    return False


def _is_there(instance: dict[str, str], until: str) -> bool:
    state = word(instance["state"])
    if state != until and state in ("ERROR", "DELETED"):
        raise Refusal(
            "FAILED_PRECONDITION",
            "STATE_UNREACHABLE",
            f"{instance['name']} is {state}. {instance['fault']}".strip(),
            exit_code=Exit.FAILED,
        )
    return state == until


def _sentence(row: dict[str, str], revision: int) -> str:
    states = " ".join(f"{key}={word(row[key])}" for key in ("state", "task", "power"))
    host = f" host={row['host_id']}" if row["host_id"] else ""
    return clean(f"{revision:>6}  {row['name']}  version={row['version']} {states}{host}")


def _labels(pairs: list[str]) -> dict[str, str]:
    split = [pair.partition("=") for pair in pairs]
    for pair, (key, equals, _) in zip(pairs, split, strict=True):
        if not key or not equals:
            raise Invalid("INVALID_FIELD", f'"{pair}" is not KEY=VALUE', field="--label")
    return {key: value for key, _, value in split}


def _keys(files: list[Path]) -> list[str]:
    lines = [
        line.strip()
        for file in files
        for line in _bytes_of(file).decode("utf-8", "replace").splitlines()
    ]
    kept = [line for line in lines if line and not line.startswith("#")]
    if any("PRIVATE KEY" in line for line in kept):
        raise Invalid(
            "INVALID_FIELD", "this is a private key; give the .pub file", field="--ssh-key"
        )
    return kept


def _bytes_of(file: Path | None) -> bytes:
    if file is None:
        return b""
    try:
        return file.read_bytes()
    except OSError as error:
        raise Invalid("FILE_UNREADABLE", f"{file}: {error.strerror}") from error
