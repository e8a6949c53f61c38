"""What chaos judges by the checkers that simulation shares, and by a few of its own."""

from __future__ import annotations

from tests.checkers.checks import check
from tests.checkers.history import History


def judge(history: History) -> list[str]:
    """Every broken invariant in words, none if all held."""
    shared = [f"{found.invariant}: {found.text}" for found in check(history)]
    return [*shared, *lost(history), *unclaimed(history), *ledger(history)]


def lost(history: History) -> list[str]:
    """Every operation that a client was promised is in the database."""
    there = {str(row["id"]) for row in history.dump.operations}
    return [
        f"lost: operation {call.operation_id} of {call.method} by {call.client} is nowhere"
        for call in history.calls
        if call.operation_id and call.operation_id not in there
    ]


def unclaimed(history: History) -> list[str]:
    """Guests and claims are the same."""
    claims = {(str(c["host_id"]), str(c["instance_id"]), c["epoch"]) for c in history.dump.claims}
    guests = {(str(g["host_id"]), str(g["instance_id"]), g["epoch"]) for g in history.dump.guests}
    return [f"leaked: guest {one} has no claim" for one in sorted(map(str, guests - claims))] + [
        f"stranded: claim {one} has no guest" for one in sorted(map(str, claims - guests))
    ]


def ledger(history: History) -> list[str]:
    """What hosts have used is the sum of their claims."""
    found = []
    for host in history.dump.hosts:
        claims = [c for c in history.dump.claims if c["host_id"] == host["id"]]
        for what in ("vcpus", "memory_mib", "disk_gib"):
            total = sum(int(str(claim[what])) for claim in claims)
            if total != host[f"used_{what}"]:
                found.append(f"ledger: {host['id']} has {host[f'used_{what}']} {what}, not {total}")
    return found
