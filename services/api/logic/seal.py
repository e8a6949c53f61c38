"""Tokens that callers carry for us: sealed so that only stead makes them, and bound to what they
were given for.

Owns the seal and what stands under it. Does not own what a token is bound to.
"""

import base64
import binascii
import hashlib
import hmac
import json
import struct
from dataclasses import dataclass
from functools import lru_cache

_SEAL_BYTES = 16
_HEAD = struct.Struct(">8sQH")


@dataclass(frozen=True, slots=True)
class Place:
    """A place in one history: a revision, and for pages the row after which the list goes on."""

    history_id: str
    revision: int
    last_key: str = ""
    last_id: str = ""


@dataclass(frozen=True, slots=True)
class Opened:
    """What stands in a token; the history is only known by its mark."""

    history_mark: bytes
    revision: int
    last_key: str
    last_id: str

    def is_of(self, history_id: str) -> bool:
        """Whether its revision counts in this history."""
        return hmac.compare_digest(self.history_mark, _mark_of(history_id))


def binding(*arguments: str) -> str:
    """One text for several, different for different ones."""
    return json.dumps(arguments)


def seal(key: bytes, place: Place, bound_to: str) -> str:
    """A token for a place, valid only with the same `bound_to`."""
    last_key = place.last_key.encode()
    head = _HEAD.pack(_mark_of(place.history_id), place.revision, len(last_key))
    content = head + last_key + place.last_id.encode()
    return base64.urlsafe_b64encode(_seal(key, content, bound_to) + content).decode().rstrip("=")


def unseal(key: bytes, token: str, bound_to: str) -> Opened | None:
    """What was sealed, None for what is not ours or not bound to this."""
    try:
        sealed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    mark, content = sealed[:_SEAL_BYTES], sealed[_SEAL_BYTES:]
    if not hmac.compare_digest(mark, _seal(key, content, bound_to)):
        return None
    history_mark, revision, length = _HEAD.unpack_from(content)
    rest = content[_HEAD.size :]
    return Opened(history_mark, revision, rest[:length].decode(), rest[length:].decode())


def _mark_of(history_id: str) -> bytes:
    return _digest(history_id)[:8]


def _seal(key: bytes, content: bytes, bound_to: str) -> bytes:
    return hmac.digest(key, _digest(bound_to) + content, "sha256")[:_SEAL_BYTES]


@lru_cache(maxsize=1024)
def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
