"""Message translators, alone; in a service they are tested with the routes."""

import json
from typing import Any

import pytest

from micro_framework.translators import JSONTranslator, MessageTranslator, translate


class Wrap(MessageTranslator):
    def __init__(self, name: str) -> None:
        self.name = name

    def translate_message(self, message: Any) -> Any:
        return {self.name: message}


@pytest.mark.parametrize(
    ("message", "expected"),
    [('{"a": 1}', {"a": 1}), (b"[1, 2]", [1, 2]), ({"a": 1}, {"a": 1}), (None, None), (5, 5)],
)
def test_json_text_is_decoded_and_anything_else_passes(message: Any, expected: Any) -> None:
    assert JSONTranslator().translate_message(message) == expected


def test_text_that_is_no_json_is_an_error() -> None:
    with pytest.raises(json.JSONDecodeError):
        JSONTranslator().translate_message("{")


def test_translators_are_chained_in_order() -> None:
    assert translate([Wrap("first"), Wrap("second")], 1) == {"second": {"first": 1}}
    assert translate([], 1) == 1


def test_a_translator_without_its_method_says_so() -> None:
    with pytest.raises(NotImplementedError, match=r"MessageTranslator must define translate_message\(message\)"):
        MessageTranslator().translate_message(1)
