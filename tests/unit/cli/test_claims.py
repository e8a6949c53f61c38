"""What a token says."""

from __future__ import annotations

import pytest

from services.cli.logic.claims import ADMIN, ADMIN_RENEW_S, Bearer, claims_of, is_worn, life_s
from services.domain.errors import Invalid


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), ("1h", 3600), ("30d", 30 * 86400)]
)
def test_a_life_is_a_number_with_a_unit(text: str, seconds: int) -> None:
    assert life_s(text) == seconds


@pytest.mark.parametrize("text", ["", "1", "h", "0s", "-1h", "1.5h", "1y", "99999d", "1h "])
def test_anything_else_is_no_life(text: str) -> None:
    with pytest.raises(Invalid):
        life_s(text)


def test_claims_name_cloud_project_role_and_time() -> None:
    claims = claims_of(Bearer("me", "web", "member", False), cloud_id="c1", window_s=(10, 20))
    assert claims == {
        "iss": "stead",
        "aud": "c1",
        "sub": "me",
        "project": "web",
        "roles": ["member"],
        "cloud_admin": False,
        "iat": 10,
        "nbf": 10,
        "exp": 20,
    }


@pytest.mark.parametrize(
    "bearer",
    [
        Bearer("me", "Web", "member", False),
        Bearer("me", "", "member", False),
        Bearer("me", "w" * 64, "member", False),
        Bearer("me", "web", "owner", False),
        Bearer("", "web", "member", False),
        Bearer("a\nb", "web", "member", False),
    ],
)
def test_a_bearer_that_api_would_refuse_gets_no_token(bearer: Bearer) -> None:
    with pytest.raises(Invalid):
        claims_of(bearer, cloud_id="c1", window_s=(10, 20))


def test_the_admins_token_is_renewed_before_its_end_and_for_another_cloud() -> None:
    claims = claims_of(ADMIN, cloud_id="c1", window_s=(0, 2 * ADMIN_RENEW_S))
    assert not is_worn(claims, cloud_id="c1", now_s=ADMIN_RENEW_S - 1)
    assert is_worn(claims, cloud_id="c1", now_s=ADMIN_RENEW_S + 1)
    assert is_worn(claims, cloud_id="c2", now_s=0)
