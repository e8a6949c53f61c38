"""Waiting for operations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from services.cli.flows.clear import delete_everything, running_guests
from services.cli.flows.wait import await_operation
from services.domain.errors import Unavailable

RUNNING = {"id": "o", "resource_id": "i", "state": "OPERATION_STATE_RUNNING"}
DONE = {**RUNNING, "state": "OPERATION_STATE_DONE"}


class Script:
    """Answers from a list, the last one again and again."""

    def __init__(self, *answers: Mapping[str, Any], living: Sequence[int] = ()) -> None:
        self._answers = list(answers)
        self._living = list(living)
        self.deleted = 0

    def operation_wait(self, operation_id: str, timeout_s: float) -> Mapping[str, Any]:
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]

    def instances_all(self) -> Sequence[Mapping[str, Any]]:
        count = self._living.pop(0) if self._living else 0
        return [{"id": str(n), "power": "INSTANCE_POWER_RUNNING"} for n in range(count)]

    def instance_delete(self, instance_id: str) -> Mapping[str, Any] | None:
        self.deleted += 1
        return None if instance_id == "0" else RUNNING


def test_every_look_is_shown_and_the_ended_operation_given_back() -> None:
    shown: list[str] = []
    ended = await_operation(
        Script(RUNNING, DONE), RUNNING, timeout_s=60, show=lambda o, _: shown.append(o["state"])
    )
    assert ended == DONE
    assert [state.rpartition("_")[2] for state in shown] == ["RUNNING", "RUNNING", "DONE"]


def test_what_does_not_end_in_time_goes_on_and_the_wait_says_so() -> None:
    with pytest.raises(Unavailable) as refused:
        await_operation(Script(RUNNING), RUNNING, timeout_s=0.01, show=lambda *_: None)
    assert refused.value.reason == "WAIT_TIMED_OUT"


def test_everything_is_deleted_also_what_came_meanwhile() -> None:
    cloud = Script(RUNNING, DONE, living=[3, 1, 0])
    assert delete_everything(cloud, tell=lambda _: None) == 3
    assert cloud.deleted == 4


def test_an_instance_that_will_not_go_stops_nothing() -> None:
    with pytest.raises(Unavailable) as refused:
        delete_everything(Script(RUNNING, living=[2]), tell=lambda _: None, timeout_s=0.01)
    assert refused.value.reason == "GUESTS_LEFT"


def test_only_guests_that_run_are_counted() -> None:
    assert running_guests(Script(DONE, living=[2])) == 2
