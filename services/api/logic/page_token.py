"""Page tokens: where a list goes on, sealed so that only stead makes them, and bound to the list's
arguments.
"""

import base64
import binascii
import hashlib
import hmac

_SEAL_BYTES = 16


def seal(key: bytes, after_id: str, binding: str) -> str:
    """A token that continues after `after_id`, valid only with the same `binding`."""
    place = after_id.encode()
    return base64.urlsafe_b64encode(_mark(key, place, binding) + place).decode().rstrip("=")


def unseal(key: bytes, token: str, binding: str) -> str | None:
    """The id to continue after, empty for an empty token, None for one that is not ours or not of
    this list.
    """
    if not token:
        return ""
    try:
        content = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        mark, place = content[:_SEAL_BYTES], content[_SEAL_BYTES:]
        if not hmac.compare_digest(mark, _mark(key, place, binding)):
            return None
        return place.decode()
    except (binascii.Error, ValueError):
        return None


def _mark(key: bytes, place: bytes, binding: str) -> bytes:
    bound = hashlib.sha256(binding.encode()).digest()
    return hmac.digest(key, bound + place, "sha256")[:_SEAL_BYTES]
