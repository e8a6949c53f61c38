"""New identities: UUIDs of version 7, whose order is that of creation on one machine.

Source: RFC 9562, section 5.7, with method 3 of section 6.2 (a fraction of the millisecond in
rand_a).
"""

import os
import time
import uuid


def new_id(now_ns: int | None = None) -> str:
    """A fresh UUIDv7 in lower case."""
    now_ns = time.time_ns() if now_ns is None else now_ns
    milliseconds, rest_ns = divmod(now_ns, 1_000_000)
    fraction = rest_ns * 4096 // 1_000_000
    random = int.from_bytes(os.urandom(8)) & ((1 << 62) - 1)
    value = (
        (milliseconds & ((1 << 48) - 1)) << 80 | 0x7 << 76 | fraction << 64 | 0b10 << 62 | random
    )
    return str(uuid.UUID(int=value))
