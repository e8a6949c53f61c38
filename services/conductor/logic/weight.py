"""How heavy an item is for the database: a guess from what users can make large.

Source: the sizes that the contract allows; everything else of an item is small.
"""

from services.conductor.logic.items import Item
from services.conductor.logic.rows import HostRow, InstanceRow, KeyPairRow

# Ids, numbers, a name and the framing of a handful of rows.
PLAIN_BYTES = 1024


def weight_of(item: Item) -> int:
    """About so many bytes travel and are written when the item is committed."""
    weight = PLAIN_BYTES
    if item.instance is not None:
        weight += weight_of_instance(item.instance)
    if item.host is not None:
        weight += _host(item.host)
    if isinstance(item.entry, KeyPairRow):
        weight += len(item.entry.public_key)
    return weight


def weight_of_instance(row: InstanceRow) -> int:
    """About so many bytes of an instance are its owner's own words."""
    keys = sum(len(key) for key in row.wanted.ssh_public_keys)
    # Labels stand in the row and in its change record.
    labels = 2 * sum(len(key) + len(value) for key, value in row.labels.items())
    return len(row.wanted.user_data) + keys + labels


def _host(row: HostRow) -> int:
    return 2 * len(row.capabilities)
