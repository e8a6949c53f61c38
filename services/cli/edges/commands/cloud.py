"""`stead up`, `stead down`, `stead status`: the whole cloud on this machine."""

import asyncio
import json
import os
import signal
from collections.abc import Callable
from importlib import metadata
from typing import Annotated, Any

import typer

from services.cli.edges.commands.flags import OutputFlag, around
from services.cli.edges.commands.up_flags import (
    ApiReplicasFlag,
    DetachFlag,
    DriverFlag,
    FakeHostsFlag,
    LibvirtFlag,
    ListenFlag,
    NatsFlag,
    PostgresFlag,
)
from services.cli.edges.daemon import Starter, detach
from services.cli.edges.homes import HomeStore
from services.cli.edges.plans import LocalPlans
from services.cli.edges.probes import LocalProbes
from services.cli.edges.processes import LocalProcesses
from services.cli.edges.terminal import Output, say, show_many
from services.cli.flows.down import take_down
from services.cli.flows.ports import Tell
from services.cli.flows.status import Status, look
from services.cli.flows.up import Machine, bring_up, join_running
from services.cli.logic.home import Home
from services.cli.logic.options import Options, options_from, written
from services.cli.logic.refusal import Exit, refusal_of
from services.cli.logic.surroundings import Surroundings
from services.cli.logic.words import counted
from services.domain.errors import CloudError

COUNT_PATIENCE_S = 3.0


def up(
    detached: DetachFlag = False,
    driver: DriverFlag = None,
    listen: ListenFlag = None,
    postgres: PostgresFlag = None,
    nats: NatsFlag = None,
    libvirt_uri: LibvirtFlag = None,
    fake_hosts: FakeHostsFlag = None,
    api_replicas: ApiReplicasFlag = None,
) -> None:
    """Starts a cloud on this machine, or finds it running.

    Its services, PostgreSQL, NATS and libvirtd, all of its own. Everything lies in $STEAD_HOME
    (default ~/.local/share/stead). What dies is started again. Without --detach it stays in the
    foreground until interrupted. Guests outlive it.

    Give a URL with a password in the environment: STEAD_CONDUCTOR_POSTGRES_URL, STEAD_NATS_URL.
    """
    given = {
        "drivers": driver or None,
        "listen": listen,
        "postgres_url": postgres,
        "nats_url": nats,
        "libvirt_uri": libvirt_uri,
        "fake_hosts": fake_hosts,
        "api_replicas": api_replicas,
    }
    bring(around(), given, detached=detached)


def bring(here: Surroundings, given: dict[str, Any], *, detached: bool) -> None:
    """Brings the cloud up with the flags that were given. Raises CloudError, Refusal,
    KeyboardInterrupt.
    """
    options = options_from(given)
    os.umask(0o077)
    HomeStore(here.home, tell=say).make_folders()
    if not detached:
        if _live(here, options, given, tell=say, on_up=say) == signal.SIGINT:
            raise KeyboardInterrupt
        return

    def work(starter: Starter) -> None:
        try:
            _live(here, options, given, tell=starter.tell, on_up=starter.up)
        except CloudError as error:
            raise refusal_of(error) from error

    say(detach(work, log=here.home.logs / "supervisor.log", tell=say))


def _live(
    here: Surroundings, options: Options, given: dict[str, Any], *, tell: Tell, on_up: Tell
) -> int:
    store = HomeStore(here.home, tell=tell)
    processes = LocalProcesses(here.home, here.environment)
    # The other one may be about to end: then it is this one's turn.
    while not store.lock():
        state = asyncio.run(join_running(store, processes, given))
        if state is not None:
            on_up(f"already up (supervisor pid {state.pid}): {_sentence(here.home, state.options)}")
            return 0
    machine = Machine(
        store,
        processes,
        LocalProbes(),
        LocalPlans(here.home, here.environment),
    )
    return asyncio.run(
        _until_signalled(
            machine, options, tell=tell, on_up=lambda now: on_up(f"up: {_sentence(here.home, now)}")
        )
    )


async def _until_signalled(
    machine: Machine, options: Options, *, tell: Tell, on_up: Callable[[Options], None]
) -> int:
    stop = asyncio.Event()
    got = [0]

    def on_signal(number: int) -> None:
        if not stop.is_set():
            tell("ending the services; guests run on")
        got[0] = number
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, on_signal, number)
    await bring_up(machine, options, stop=stop, on_up=on_up, tell=tell)
    return got[0]


def _sentence(home: Home, options: Options) -> str:
    replicas = f", {options.api_replicas} replicas of api" if options.api_replicas > 1 else ""
    return f"{options.listen}{replicas}, home {home.path}; stop it with `stead down`"


def down(
    guests: Annotated[
        bool, typer.Option("--guests", help="Delete every instance first, so that nothing is left.")
    ] = False,
) -> None:
    """Ends the services; guests run on.

    The next `stead up` finds them, unless --guests is given.
    """
    here = around()
    store = HomeStore(here.home, tell=say)
    processes = LocalProcesses(here.home, here.environment)
    if not here.home.run.exists():
        say(f"nothing runs: there is no cloud in {here.home.path}")
        return
    left: int | None = 0
    if guests:
        _clear_guests(here, store)
    elif store.is_locked():
        left = _count_guests(here)
    ended = asyncio.run(take_down(store, processes))
    say(f"ended {', '.join(ended)}" if ended else "nothing ran")
    if left is None:
        say("guests, if there are any, keep running: they could not be counted")
    elif left:
        say(
            f"{counted(left, 'guest')} {'keeps' if left == 1 else 'keep'} running; "
            "`stead up` finds them again, `stead down --guests` ends them"
        )


def _clear_guests(here: Surroundings, store: HomeStore) -> None:
    from services.cli.edges.api import connected
    from services.cli.edges.guests import CloudInstances
    from services.cli.flows.clear import delete_everything

    if not store.is_locked():
        state = store.state_read()
        if state is None or not store.has_guests():
            return
        say("starting the cloud once more: only it can end its guests in order")
        bring(here, written(state.options), detached=True)
    with connected(_as_admin(here)) as api:
        deleted = delete_everything(CloudInstances(api), tell=say)
    say(f"deleted {counted(deleted, 'instance')}")


def _count_guests(here: Surroundings) -> int | None:
    from services.cli.edges.api import connected
    from services.cli.edges.guests import CloudInstances
    from services.cli.flows.clear import running_guests
    from services.cli.logic.refusal import Refusal

    try:
        with connected(_as_admin(here), patience_s=COUNT_PATIENCE_S) as api:
            return running_guests(CloudInstances(api))
    except (Refusal, CloudError):
        return None


def _as_admin(here: Surroundings) -> Surroundings:
    # Whatever cloud and token this shell is set to, the cloud of this home is meant.
    return Surroundings(here.home, "", here.home.token_file, here.environment)


def status(output: OutputFlag = Output.TABLE) -> None:
    """Shows the services of this machine's cloud. Exit code 0 if all of them answer, else 7."""
    here = around()
    store = HomeStore(here.home, tell=say)
    seen = asyncio.run(look(store, LocalProcesses(here.home, here.environment), LocalProbes()))
    shown = _status_json(here.home, seen)
    if output is Output.JSON:
        print(json.dumps(shown, indent=2))
    else:
        _show_status(seen, shown)
    if not seen.healthy:
        raise typer.Exit(Exit.UNREACHABLE)


def _show_status(seen: Status, shown: dict[str, Any]) -> None:
    if not seen.seen:
        print(f"nothing runs: home {shown['home']}; start it with `stead up --detach`")
        return
    word = "healthy" if seen.healthy else "not healthy"
    print(f"{word}: {shown['endpoint']}, home {shown['home']}")
    show_many("service", [*shown["services"], *shown["auxiliary"]], Output.TABLE)


def _status_json(home: Home, status_seen: Status) -> dict[str, Any]:
    rows: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
    for seen in status_seen.seen:
        rows[seen.seat.auxiliary].append(
            {
                "name": seen.seat.name,
                "replica": seen.seat.replica,
                "pid": seen.seat.pid,
                "state": seen.state,
                "endpoint": seen.seat.endpoint,
                "admin_endpoint": seen.seat.admin_endpoint,
                "restarts": seen.seat.restarts,
            }
        )
    state = status_seen.state
    return {
        "healthy": status_seen.healthy,
        "version": version(),
        "home": str(home.path),
        "endpoint": (state.options if state else Options()).listen,
        "services": rows[False],
        "auxiliary": rows[True],
    }


def version() -> str:
    """This stead's release, or where it runs from without one."""
    try:
        return metadata.version("stead")
    except metadata.PackageNotFoundError:
        return "not installed"
