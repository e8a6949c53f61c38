"""Etags: an opaque mark of one version of one thing, the same wherever it is made."""

import hashlib


def etag_of(row_id: str, version: int) -> str:
    """16 hexadecimal digits: the beginning of the SHA-256 of id and version; empty for version 0,
    which is of nothing that is there.
    """
    if version == 0:
        return ""
    return hashlib.sha256(f"{row_id} {version}".encode()).hexdigest()[:16]
