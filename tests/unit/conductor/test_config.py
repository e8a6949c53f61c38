"""The conductor's settings, as its environment names them."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from services.conductor.config import Settings
from services.conductor.logic.paces import Paces
from services.conductor.logic.step_table import Deadlines, Limit
from services.domain.resources import UNLIMITED, QuotaAmounts

NEEDED = {
    "STEAD_CLOUD_ID": "abcdefabcdef",
    "STEAD_NATS_URL": "nats://localhost:1",
    "STEAD_CONDUCTOR_LISTEN": "unix:c.sock",
    "STEAD_CONDUCTOR_POSTGRES_URL": "postgresql://localhost/stead",
}


def settings(monkeypatch: pytest.MonkeyPatch, **more: str) -> Settings:
    for name, value in (NEEDED | more).items():
        monkeypatch.setenv(name, value)
    return Settings()  # type: ignore[call-arg]  # filled from the environment


def test_without_a_word_there_are_no_limits_and_the_log_is_kept_an_hour_and_a_gibibyte(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = settings(monkeypatch)
    assert found.usual_limits() == UNLIMITED
    assert (found.log_keep_s, found.log_bytes_max) == (3600.0, 1 << 30)


def test_the_usual_limits_and_the_log_are_set_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    found = settings(
        monkeypatch,
        STEAD_CONDUCTOR_QUOTA_INSTANCES="10",
        STEAD_CONDUCTOR_QUOTA_VCPUS="20",
        STEAD_CONDUCTOR_QUOTA_MEMORY_MIB="-1",
        STEAD_CONDUCTOR_QUOTA_DISK_GIB="0",
        STEAD_CONDUCTOR_LOG_KEEP_S="60",
        STEAD_CONDUCTOR_LOG_BYTES_MAX="1000000",
    )
    assert found.usual_limits() == QuotaAmounts(10, 20, -1, 0)
    assert (found.log_keep_s, found.log_bytes_max) == (60.0, 1_000_000)


def test_a_limit_below_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValidationError):
        settings(monkeypatch, STEAD_CONDUCTOR_QUOTA_VCPUS="-2")


def test_deadlines_are_settings_and_a_request_is_never_kept_for_less_than_seven_days(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = settings(monkeypatch)
    assert found.deadlines() == Deadlines()
    assert found.request_keep_s == 7 * 86_400
    for n, limit in enumerate([limit for limit in Limit if limit.value], start=1):
        monkeypatch.setenv(f"STEAD_CONDUCTOR_{limit.value.upper()}", str(n))
    assert settings(monkeypatch).deadlines() == Deadlines(1, 2, 3, 4)
    with pytest.raises(ValidationError):
        settings(monkeypatch, STEAD_CONDUCTOR_DEADLINE_PLACING_S="0")
    monkeypatch.delenv("STEAD_CONDUCTOR_DEADLINE_PLACING_S")
    with pytest.raises(ValidationError):
        settings(monkeypatch, STEAD_CONDUCTOR_REQUEST_KEEP_S="86400")


def test_what_a_lost_message_costs_is_set_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    found = settings(monkeypatch)
    assert (found.paces(), found.head_every_s) == (Paces(1.0, 2.0, 60.0, 60.0), 1.0)
    names = ("PLACE_AGAIN_S", "LOOK_AGAIN_S", "LOOK_AGAIN_MOST_S", "YOUNG_S", "HEAD_EVERY_S")
    said = {f"STEAD_CONDUCTOR_{name}": str(n) for n, name in enumerate(names, start=1)}
    found = settings(monkeypatch, **said)
    assert (found.paces(), found.head_every_s) == (Paces(1, 2, 3, 4), 5)
    for name in names:
        with pytest.raises(ValidationError):
            settings(monkeypatch, **{**said, f"STEAD_CONDUCTOR_{name}": "-1"})


@pytest.mark.parametrize(
    ("command", "words"),
    [("", ()), (" ", ()), ("off --now 'rack 7'", ("off", "--now", "rack 7"))],
)
def test_the_fence_program_is_words_as_a_shell_splits_them(
    monkeypatch: pytest.MonkeyPatch, command: str, words: tuple[str, ...]
) -> None:
    found = settings(monkeypatch, STEAD_CONDUCTOR_FENCE_PROGRAM=command)
    assert found.fence_program == words


def test_a_fence_program_with_an_open_quote_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValidationError, match="closing quotation"):
        settings(monkeypatch, STEAD_CONDUCTOR_FENCE_PROGRAM="off 'rack")
