"""Identities. Ids of rows are UUIDs in lower case whose order is that of creation."""

import re

HOST_ID = re.compile(r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")
PROJECT_ID = re.compile(r"[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?")
ROW_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def is_host_id(text: str) -> bool:
    """Whether `text` can name a host: 1 to 63 of a-z, 0-9 and dash, no dash at the ends."""
    return HOST_ID.fullmatch(text) is not None


def is_project_id(text: str) -> bool:
    """Whether `text` can name a project: as a host, and also with underscores."""
    return PROJECT_ID.fullmatch(text) is not None


def is_row_id(text: str) -> bool:
    """Whether `text` can name a row: a UUID in lower case with its dashes."""
    return ROW_ID.fullmatch(text) is not None
