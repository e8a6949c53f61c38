"""Identities. Ids of rows are UUIDs in lower case whose order is that of creation."""

import re

HOST_ID = re.compile(r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")


def is_host_id(text: str) -> bool:
    """Whether `text` can name a host: 1 to 63 of a-z, 0-9 and dash, no dash at the ends."""
    return HOST_ID.match(text) is not None
