"""Labels as people write them on a command line."""

from collections.abc import Mapping, Sequence

from services.domain.errors import Invalid


def labels_of(pairs: Sequence[str]) -> dict[str, str]:
    """The labels in KEY=VALUE words. Raises Invalid."""
    split = [pair.partition("=") for pair in pairs]
    for pair, (key, equals, _) in zip(pairs, split, strict=True):
        if not key or not equals:
            raise Invalid("INVALID_FIELD", f'"{pair}" is not KEY=VALUE', field="--label")
    return {key: value for key, _, value in split}


def relabelled(
    present: Mapping[str, str], *, added: Mapping[str, str], removed: Sequence[str]
) -> dict[str, str]:
    """The labels after adding some and removing others. Raises Invalid for a key to be removed
    that is not there.
    """
    strange = [key for key in removed if key not in present]
    if strange:
        words = f'there is no label "{strange[0]}"'
        raise Invalid("INVALID_FIELD", words, field="--remove-label")
    kept = {key: value for key, value in present.items() if key not in removed}
    return {**kept, **added}
