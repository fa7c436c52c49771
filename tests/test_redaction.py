"""Arguments in a log: short, and without what is sensitive, however it was passed."""

from collections.abc import Callable
from typing import Any

import pytest

from micro_framework.redaction import REDACTED, shown_arguments
from micro_framework.signatures import described_parameters


def pay(customer, card, amount=0): ...
def many(customer, *cards, currency="EUR"): ...
def free(customer, **details): ...
def exact(card, /, *, secret): ...


def shown(function: Callable[..., Any], sensitive: str | list[str], *args: Any, **kwargs: Any) -> str:
    paths = [sensitive] if isinstance(sensitive, str) else sensitive
    return shown_arguments(args, kwargs, parameters=described_parameters(function), sensitive=paths)


def test_arguments_are_shown_as_they_were_given() -> None:
    assert shown(pay, [], 7, {"number": "4111"}, amount=2.5) == "(7, {'number': '4111'}, amount=2.5)"
    assert shown_arguments((), {}) == "()"


CARD = {"number": 4111, "owner": {"pin": 1}, "past": [{"pin": 2}, {"pin": 3}]}
WHOLE = "{'number': 4111, 'owner': {'pin': 1}, 'past': [{'pin': 2}, {'pin': 3}]}"


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("card", "'********'"),
        ("card.number", WHOLE.replace("4111", "'********'")),
        ("card.owner", WHOLE.replace("{'pin': 1}", "'********'")),
        ("card.owner.pin", WHOLE.replace("1}", "'********'}")),
        ("card.past[0].pin", WHOLE.replace("2}", "'********'}")),
        ("card.past[-1].pin", WHOLE.replace("3}", "'********'}")),
        ("card.past[1]", WHOLE.replace("{'pin': 3}", "'********'")),
        ("card.past[7].pin", WHOLE),
        ("card.number.of", WHOLE),
        ("card.nowhere", WHOLE),
        ("", WHOLE),
    ],
)
def test_a_path_hides_what_is_at_its_end(path: str, text: str) -> None:
    assert shown(pay, path, 7, CARD) == f"(7, {text})"


def test_by_position_and_by_name_it_is_the_same_argument() -> None:
    for text in (shown(pay, "card", 7, "4111"), shown(pay, "card", 7, card="4111"), shown(pay, "card", card="4111")):
        assert "4111" not in text
        assert REDACTED in text


@pytest.mark.parametrize(
    ("path", "hidden", "visible"),
    [
        ("cards", ["1111", "2222", "3333"], ["EUR", "7"]),
        ("cards[0]", ["1111"], ["2222", "3333"]),
        ("cards[-1]", ["3333"], ["1111", "2222"]),
        ("currency", ["EUR"], ["1111", "2222", "3333"]),
    ],
)
def test_further_positional_arguments_belong_to_their_own_parameter(
    path: str, hidden: list[str], visible: list[str]
) -> None:
    text = shown(many, path, 7, "1111", "2222", "3333", currency="EUR")
    assert [value for value in hidden if value in text] == []
    assert [value for value in visible if value not in text] == []


@pytest.mark.parametrize("path", ["details", "details.token", "token"])
def test_further_keywords_are_known_by_two_names(path: str) -> None:
    text = shown(free, path, 7, token="abc", other="open" if path != "details" else "abc")
    assert "abc" not in text
    assert ("open" in text) == (path != "details")


def test_positional_only_and_keyword_only_parameters() -> None:
    assert shown(exact, ["card", "secret"], "4111", secret="abc") == f"('{REDACTED}', secret='{REDACTED}')"


def test_where_something_is_sensitive_what_fits_nowhere_is_not_shown() -> None:
    """A caller who mistypes a name, or gives one argument too many, sends the secret all the same."""
    assert "4111" not in shown(pay, "card", 7, "x", 0, "4111")
    assert "4111" not in shown(pay, "card", 7, crad="4111")
    assert "4111" in shown(pay, [], 7, crad="4111")


def test_without_a_known_signature_everything_is_hidden_or_nothing() -> None:
    assert shown_arguments(("4111",), {"a": 1}, sensitive=["card"]) == f"('{REDACTED}', a='{REDACTED}')"
    assert shown_arguments(("4111",), {"a": 1}) == "('4111', a=1)"


def test_the_values_themselves_are_left_alone() -> None:
    card = {"number": "4111"}
    shown(pay, "card.number", 7, card)
    assert card == {"number": "4111"}


@pytest.mark.parametrize("large", ["x" * 10_000_000, list(range(1_000_000)), {str(n): n for n in range(10_000)}])
def test_large_arguments_are_shortened(large: Any) -> None:
    assert len(shown(pay, [], large, large, large)) < 500


def test_a_value_that_cannot_be_shown_does_no_harm() -> None:
    class Odd:
        def __repr__(self) -> str:
            raise ValueError("no text")

    def fail(self: object) -> Any:
        raise ValueError("no items")

    odder = type("dict", (dict,), {"__iter__": fail, "__len__": fail})()
    text = shown(pay, [], Odd(), [odder])
    assert text.startswith("(<Odd instance at ")
    assert text.endswith(", [<dict>])")
