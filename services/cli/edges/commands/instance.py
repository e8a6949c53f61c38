"""`stead instance`: joins its commands, each defined in a file of its own part."""

from collections.abc import Callable

from services.cli.edges.commands import instance_change as change
from services.cli.edges.commands import instance_look as look
from services.cli.edges.commands import instance_power as power
from services.cli.edges.commands.examples import taught
from services.cli.edges.commands.flags import group
from services.cli.edges.commands.instance_console import console
from services.cli.edges.commands.instance_create import create

app = group("Machines: ask for them, look at them, switch, change and delete them.")
_VERBS: dict[str, Callable[..., None]] = {
    "create": create,
    "list": look.list_all,
    "show": look.show,
    "update": change.update,
    "start": power.start,
    "stop": change.stop,
    "reboot": change.reboot,
    "pause": power.pause,
    "unpause": power.unpause,
    "suspend": power.suspend,
    "resume": power.resume,
    "evacuate": change.evacuate,
    "delete": change.delete,
    "console": console,
    "watch": look.watch,
    "wait": look.wait,
}
for _verb, _command in _VERBS.items():
    app.command(_verb, epilog=taught(f"instance {_verb}"))(_command)
