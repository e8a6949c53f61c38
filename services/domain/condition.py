"""A condition on one field of a row: what a filter is made of, the same in SQL and in memory.

Owns what a condition means. Does not own the grammar (api) nor which fields a noun has.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

LABEL_PREFIX = "labels."


@dataclass(frozen=True, slots=True)
class Condition:
    """`field` is one of `values`, or with `negated` none of them.

    Values are text: of enums the number in decimals, of bools `true` or `false`. A field that a row
    does not have (a label) is equal to nothing.
    """

    field: str
    values: tuple[str, ...]
    negated: bool = False

    def holds(self, value: str | None) -> bool:
        """Whether a row with this value of the field meets the condition."""
        return (value in self.values) is not self.negated


def all_hold(conditions: Iterable[Condition], value_of: Callable[[str], str | None]) -> bool:
    """Whether a row whose fields `value_of` gives meets every condition."""
    return all(condition.holds(value_of(condition.field)) for condition in conditions)
