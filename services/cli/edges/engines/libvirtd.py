"""The libvirtd of a home: a module of compute becomes it; here is how that is called."""

import subprocess
import sys
from urllib.parse import parse_qs, urlsplit

from services.cli.logic.home import Home
from services.cli.logic.units import Probe, Unit
from services.domain.errors import Unavailable

ASK_S = 30


def unit(home: Home, reached_by: str) -> Unit:
    """The unit; its endpoint is the path of its socket."""
    return Unit(
        name="libvirtd",
        argv=_argv(home),
        probe=Probe.SOCKET,
        endpoint=parse_qs(urlsplit(reached_by).query)["socket"][0],
        ends_in=2,
        auxiliary=True,
    )


def uri(home: Home) -> str:
    """How compute reaches it. Raises Unavailable."""
    asked = subprocess.run(
        [*_argv(home), "--print-uri"], capture_output=True, text=True, timeout=ASK_S, check=False
    )
    if asked.returncode != 0:
        raise Unavailable("ENGINE_FAILED", f"libvirtd: {asked.stderr.strip()[-500:]}")
    return asked.stdout.strip()


def _argv(home: Home) -> tuple[str, ...]:
    module = "services.compute.edges.libvirtd"
    return (sys.executable, "-P", "-m", module, "--home", str(home.path))
