"""What one client may rely on from call to call."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from tests.checkers.history import Call, Ending
from tests.checkers.past import Past


def reads_own_writes(past: Past) -> Iterator[str]:
    """I18: whoever was answered with a version of an instance is never again, in a call that began
    after that answer, shown an older one; through any replica.
    """
    sessions: dict[tuple[str, str], list[Call]] = defaultdict(list)
    for call in past.calls():
        if call.ending is Ending.OK and call.version and call.resource_id:
            sessions[call.client, call.resource_id].append(call)
    for (client, instance_id), calls in sessions.items():
        answered = sorted(calls, key=lambda call: call.ended_s)
        known, place = 0, 0
        for call in sorted(calls, key=lambda call: call.invoked_s):
            while place < len(answered) and answered[place].ended_s < call.invoked_s:
                known = max(known, answered[place].version)
                place += 1
            if call.version < known:
                yield f"{client} is shown {instance_id} v{call.version} after v{known}"
