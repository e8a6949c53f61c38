"""Requests that are sent again: the same answer for the same payload, none for another."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from services.domain.operation import OperationAction
from tests.checkers.history import Call, Ending
from tests.checkers.past import Past


def repeated(past: Past) -> Iterator[str]:
    """I7: calls with one request id and one payload have one instance and operation; of several
    payloads at most one is ever done, and a second one after an answer is refused.
    """
    alike: dict[tuple[str, str, str], list[Call]] = defaultdict(list)
    for call in past.calls():
        if call.request_id:
            alike[call.project_id, call.method, call.request_id].append(call)
    for (_, method, request_id), calls in alike.items():
        yield from _answers(method, request_id, [c for c in calls if c.ending is Ending.OK])


def _answers(method: str, request_id: str, done: Sequence[Call]) -> Iterator[str]:
    payloads = {call.fingerprint for call in done}
    if len(payloads) > 1:
        yield f"{method} {request_id} was done with {len(payloads)} payloads"
    answers = {(call.resource_id, call.operation_id) for call in done}
    if len(answers) > len(payloads):
        yield f"{method} {request_id} was answered with {sorted(answers)}"


def made_once(past: Past) -> Iterator[str]:
    """I7: one request makes one thing: no two create operations carry the same request id, and no
    two instances that one project asked for were made by one request.
    """
    made: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for row in past.dump.requests:
        if row["resource_id"]:
            key = (str(row["project_id"]), str(row["method"]), str(row["request_id"]))
            made[key].add(str(row["resource_id"]))
    for call in past.calls("CreateInstance"):
        if call.ending is Ending.OK:
            made[call.project_id, "CreateInstance", call.request_id].add(call.resource_id)
    for (project_id, method, request_id), ids in made.items():
        if len(ids) > 1:
            yield f"{method} {request_id} of {project_id} made {sorted(ids)}"
    yield from _twice_created(past)


def _twice_created(past: Past) -> Iterator[str]:
    creates: dict[str, int] = defaultdict(int)
    for row in past.operations.values():
        if int(row["action"]) == OperationAction.CREATE_INSTANCE:
            creates[str(row["resource_id"])] += 1
    for instance_id in past.instances:
        if creates and creates[instance_id] != 1:
            yield f"instance {instance_id} has {creates[instance_id]} creates"
