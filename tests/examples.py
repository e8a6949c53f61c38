"""Owns how many examples a property test draws: few in `make test`, all in `make test-all`.

Two profiles of hypothesis: `few`, the default, and `all`, which `make test-all` names by
`--hypothesis-profile=all`.
"""

from __future__ import annotations

from hypothesis import settings

FEW = "few"
ALL = "all"
# `make test` draws one of so many.
SHARE = 10
AT_LEAST = 10

settings.register_profile(FEW, max_examples=20)
settings.register_profile(ALL, max_examples=100)


def examples(full: int) -> int:
    """The number to draw of a test that draws `full` in `make test-all`."""
    if settings.get_current_profile_name() == ALL:
        return full
    return max(AT_LEAST, full // SHARE)
