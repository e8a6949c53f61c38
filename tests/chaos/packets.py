"""The road to the bus, whose clients speak TCP to it directly: its packets are dropped, by nft, in
the network that a run has to itself. Owns no fault's time.

A road is whole, or:
- half-open: no packet gets through, and neither end is told;
- mute: what is sent to the bus arrives, nothing of it comes back.
"""

from __future__ import annotations

import os
import subprocess

import psutil

TABLE = "chaos"
MATCHES = {
    "half-open": ("tcp dport {port}", "tcp sport {port}"),
    "mute": ("tcp sport {port}",),
}
NFT_S = 60.0


class Packets:
    """The packets to and from one port of the loopback, as `open_loopback` has opened it."""

    def __init__(self, port: int) -> None:
        self._port = port
        nft(f"add table inet {TABLE}")
        nft(f"add chain inet {TABLE} cuts {{ type filter hook input priority 0; }}")

    @property
    def passing(self) -> int:
        """How many connections there are."""
        return sum(
            one.status == psutil.CONN_ESTABLISHED and getattr(one.raddr, "port", 0) == self._port
            for one in psutil.net_connections("tcp")
        )

    def break_(self, mode: str) -> int:
        """Cuts the road; how many connections will feel it."""
        for match in MATCHES[mode]:
            nft(f"add rule inet {TABLE} cuts {match.format(port=self._port)} counter drop")
        return self.passing

    def mend(self) -> None:
        """Lets everything pass."""
        nft(f"flush chain inet {TABLE} cuts")


def open_loopback() -> None:
    """Makes a new network one in which processes reach each other."""
    run("ip", "link", "set", "lo", "up")


def nft(words: str) -> None:
    """One command of nft. Raises CalledProcessError."""
    run("nft", words)


def run(*command: str) -> None:
    """Runs it to its end. Raises CalledProcessError."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    subprocess.run(
        command, check=True, capture_output=True, timeout=NFT_S, env=os.environ | {"PATH": path}
    )
