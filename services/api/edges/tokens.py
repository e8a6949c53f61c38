"""Tokens: JSON Web Tokens signed with Ed25519, checked against one pinned key.

Owns the check and its cache: a token seen before costs one hash until it expires. The algorithm is
pinned, so the token's own header decides nothing.
"""

import hashlib
import math
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from services.api.logic.caller import Caller, Role
from services.domain.errors import Unauthenticated

ISSUER = "stead"
CACHED_MAX = 10_000
TOKEN_BYTES_MAX = 8192
SKEW_S = 30

_PROJECT = re.compile(r"[a-z0-9-]{1,63}")
_ROLES = {"reader": Role.READER, "member": Role.MEMBER, "admin": Role.ADMIN}


def load_key(path: Path) -> Ed25519PublicKey:
    """The public key in a PEM file. Raises ValueError if it is of another kind."""
    key = load_pem_public_key(path.read_bytes())
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError(f"{path} holds no Ed25519 public key")
    return key


class Tokens:
    """Turns tokens into callers."""

    def __init__(
        self, key: Ed25519PublicKey, cloud_id: str, now_s: Callable[[], float] = time.time
    ) -> None:
        self._key = key
        self._cloud_id = cloud_id
        self._now_s = now_s
        self._cache: OrderedDict[bytes, Caller] = OrderedDict()

    def caller(self, token: str) -> Caller:
        """Who holds this token. Raises Unauthenticated (TOKEN_INVALID, TOKEN_EXPIRED)."""
        mark = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        caller = self._cache.get(mark)
        if caller is None:
            caller = self._verified(token)
            if caller.expires_at_s > self._now_s():
                self._cache[mark] = caller
            if len(self._cache) > CACHED_MAX:
                self._cache.popitem(last=False)
        if caller.expires_at_s <= self._now_s():
            self._cache.pop(mark, None)
            raise Unauthenticated("TOKEN_EXPIRED", "this token has expired; ask for a new one")
        return caller

    def _verified(self, token: str) -> Caller:
        if len(token) > TOKEN_BYTES_MAX:
            raise _invalid()
        try:
            claims = jwt.decode(
                token,
                self._key,
                algorithms=["EdDSA"],
                audience=self._cloud_id,
                issuer=ISSUER,
                leeway=SKEW_S,
                options={
                    "require": ["exp", "iat", "nbf", "sub", "aud", "iss"],
                    "verify_exp": False,
                },
            )
        except jwt.InvalidTokenError as error:
            raise _invalid() from error
        return _caller_of(claims)


def _caller_of(claims: dict[str, Any]) -> Caller:
    subject, project, roles = claims["sub"], claims.get("project"), claims.get("roles")
    cloud_admin, expires = claims.get("cloud_admin", False), claims["exp"]
    if not (isinstance(subject, str) and 0 < len(subject) <= 255 and subject.isprintable()):
        raise _invalid()
    if not (isinstance(project, str) and _PROJECT.fullmatch(project)):
        raise _invalid()
    if not (isinstance(roles, list) and all(isinstance(role, str) for role in roles)):
        raise _invalid()
    if not isinstance(cloud_admin, bool) or type(expires) not in (int, float):
        raise _invalid()
    if not math.isfinite(expires):
        raise _invalid()
    highest = max((_ROLES.get(role, Role.NONE) for role in roles), default=Role.NONE)
    return Caller(subject, project, Role.CLOUD_ADMIN if cloud_admin else highest, float(expires))


def _invalid() -> Unauthenticated:
    return Unauthenticated("TOKEN_INVALID", "this token was not made for this cloud, or not by it")
