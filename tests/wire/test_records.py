"""Records: what type checkers hold them to, and what they are at run time."""

import pickle
from collections.abc import Mapping
from dataclasses import field, replace

import pytest

from micro_framework.wire.records import record


@record(frozen=True, slots=True)
class Parcel:
    """A record."""

    weight: int
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)


HEAVY = Parcel(7, {"to": "Ada"})


def test_equal_records_are_one_in_sets_and_dicts() -> None:
    assert Parcel(7, {"to": "Ada"}) == HEAVY != Parcel(8, {"to": "Ada"})
    assert {HEAVY, Parcel(7, {"to": "Ada"})} == {HEAVY}


def test_they_are_replaced_pickled_and_shown_as_any_dataclass() -> None:
    assert replace(HEAVY, weight=8) == Parcel(8, {"to": "Ada"})
    assert pickle.loads(pickle.dumps(HEAVY)) == HEAVY
    assert repr(HEAVY) == "Parcel(weight=7, labels={'to': 'Ada'})"


def test_a_type_checker_lets_nobody_change_one() -> None:
    changed = Parcel(7)
    changed.weight = 8  # type: ignore[misc]  # strict mypy complains of this comment, too, where it is not needed
    assert changed == Parcel(8), "at run time nothing stands in the way"


def test_they_take_nothing_else() -> None:
    with pytest.raises(AttributeError):
        HEAVY.price = 3  # type: ignore[attr-defined]
