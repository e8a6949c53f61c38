"""Update masks: which fields of a thing are meant to change.

Owns what a mask may name. Does not own what is done with them.
"""

ALL = "*"


def masked(paths: tuple[str, ...], fields: tuple[str, ...]) -> frozenset[str] | str:
    """The fields that the paths name, `*` for all of them; or why the mask cannot be followed."""
    if not paths:
        return f"name at least one of {', '.join(fields)}, or * for all"
    for path in paths:
        if path != ALL and path not in fields:
            return f"{path[:64]!r} cannot be changed; name {', '.join(fields)}, or * for all"
    return frozenset(fields) if ALL in paths else frozenset(paths)
