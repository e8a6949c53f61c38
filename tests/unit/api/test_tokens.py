"""Tokens: the cache costs next to nothing, is bounded, and forgets in time."""

import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from services.api.edges.tokens import CACHED_MAX, Tokens
from services.api.logic.caller import Role, may
from services.domain.errors import Unauthenticated

KEY = Ed25519PrivateKey.generate()
CLOUD = "0123456789ab"


def token(**changed: Any) -> str:
    now = int(time.time())
    claims = {
        "iss": "stead", "aud": CLOUD, "sub": "someone", "project": "p", "roles": ["member"],
        "cloud_admin": False, "iat": now, "nbf": now, "exp": now + 3600, **changed,
    }  # fmt: skip
    return jwt.encode(claims, KEY, algorithm="EdDSA")


def checker(now_s: Any = time.time) -> Tokens:
    return Tokens(KEY.public_key(), CLOUD, now_s)


@pytest.mark.parametrize(
    ("changed", "role"),
    [
        ({"roles": []}, Role.NONE),
        ({"roles": ["unknown"]}, Role.NONE),
        ({"roles": ["reader"]}, Role.READER),
        ({"roles": ["reader", "admin", "member"]}, Role.ADMIN),
        ({"roles": [], "cloud_admin": True}, Role.CLOUD_ADMIN),
    ],
)
def test_a_caller_has_the_highest_of_its_roles(changed: dict[str, Any], role: Role) -> None:
    caller = checker().caller(token(**changed))
    assert caller.role is role
    assert (caller.subject, caller.project_id) == ("someone", "p")
    assert [needed for needed in Role if may(caller, needed)] == [r for r in Role if r <= role]


def test_a_token_seen_before_costs_microseconds() -> None:
    tokens, known = checker(), token()
    tokens.caller(known)
    begun_s = time.perf_counter()
    for _ in range(2000):
        tokens.caller(known)
    each_s = (time.perf_counter() - begun_s) / 2000
    assert each_s < 50e-6


def test_a_cached_token_expires_all_the_same() -> None:
    now_s = time.time()
    tokens = checker(lambda: now_s)
    known = token(exp=int(now_s) + 10)
    assert tokens.caller(known).project_id == "p"
    now_s += 11
    for _ in range(2):
        with pytest.raises(Unauthenticated) as refused:
            tokens.caller(known)
        assert refused.value.reason == "TOKEN_EXPIRED"


def test_the_cache_is_bounded() -> None:
    tokens = checker()
    first = token()
    tokens.caller(first)
    tokens._cache.update(
        {number.to_bytes(32): tokens.caller(first) for number in range(CACHED_MAX)}
    )
    tokens.caller(token(sub="another"))
    assert len(tokens._cache) <= CACHED_MAX + 1
    assert tokens.caller(first).subject == "someone"


@pytest.mark.parametrize("end", [float("nan"), float("inf")])
def test_a_token_that_never_ends_does_not_count(end: float) -> None:
    with pytest.raises(Unauthenticated) as refused:
        checker().caller(token(exp=end))
    assert refused.value.reason == "TOKEN_INVALID"


def test_a_token_of_more_than_8_kib_is_not_looked_at() -> None:
    assert checker().caller(token(more="x" * 3000)).subject == "someone"
    with pytest.raises(Unauthenticated) as refused:
        checker().caller(token(more="x" * 9000))
    assert refused.value.reason == "TOKEN_INVALID"
