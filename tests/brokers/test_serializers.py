"""Bodies by content type, as the configuration allows."""

import subprocess
import sys
import types
import zlib
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from micro_framework.brokers.serializers import Serializers
from micro_framework.config import Settings
from micro_framework.exceptions import ConfigError, UndecodableMessage

WHEN = datetime(2024, 5, 1, 12, 30, tzinfo=UTC)
JSON = "application/json"


def serializers(**config: Any) -> Serializers:
    return Serializers(Settings.from_mapping(config))


@pytest.fixture
def codec(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    module = types.ModuleType("my_codec")
    module.encode = lambda value: f"<{value}>"  # type: ignore[attr-defined]
    module.decode = lambda body: (body.decode() if isinstance(body, bytes) else body)[1:-1]  # type: ignore[attr-defined]
    module.number = 5  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "my_codec", module)
    return module


MINE = {"encoder": "my_codec.encode", "decoder": "my_codec.decode", "content_type": "application/x-mine"}


@pytest.mark.parametrize("value", [None, 5, "ä", [1, {"a": None}], {}, "", WHEN, Decimal("1.5")])
def test_json_goes_there_and_back(value: Any) -> None:
    both = serializers()
    body, content_type, encoding = both.encode(value)
    assert (content_type, encoding) == (JSON, "utf-8")
    assert both.decode(body, content_type, encoding) == value


def test_types_that_json_lacks_are_tagged_or_plain() -> None:
    assert b"__type__" in serializers().encode(WHEN).body
    plain = serializers(JSON_TYPES="plain")
    assert plain.encode(WHEN).body == b'"2024-05-01T12:30:00Z"'
    assert plain.decode(serializers().encode(WHEN).body, JSON, "utf-8") == WHEN, "both forms are read"


@pytest.mark.parametrize(
    ("name", "content_type"), [("yaml", "application/x-yaml"), ("pickle", "application/x-python-serialize")]
)
def test_other_serializers_are_kombus(name: str, content_type: str) -> None:
    both = serializers(serializer=name)
    encoded = both.encode({"a": [1]})
    assert encoded.content_type == content_type
    assert isinstance(encoded.body, bytes)
    assert both.decode(*encoded) == {"a": [1]}


def test_one_publish_may_name_another_serializer() -> None:
    assert serializers().encode({"b": 1}, "yaml").content_type == "application/x-yaml"


def test_a_serializer_of_the_users_own(codec: types.ModuleType) -> None:
    both = serializers(serializer="mine", SERIALIZERS={"mine": MINE})
    encoded = both.encode("text")
    assert encoded == (b"<text>", "application/x-mine", "utf-8")
    assert both.decode(*encoded) == "text"


@pytest.mark.parametrize(
    ("body", "content_type", "problem"),
    [
        (b"{not json", JSON, "not valid application/json"),
        (b"\xff\xfe", JSON, "not valid application/json"),
        (b"1", "text/xml", "content type 'text/xml' is not accepted; ACCEPT allows application/json"),
        (b"\x80\x04.", "application/x-python-serialize", "is not accepted"),
        (b"", "application/x-python-serialize", "is not accepted"),
    ],
)
def test_what_cannot_be_decoded_is_explained(body: bytes, content_type: str, problem: str) -> None:
    with pytest.raises(UndecodableMessage) as caught:
        serializers().decode(body, content_type, "utf-8")
    assert problem in str(caught.value)


def test_accept_widens_what_is_read() -> None:
    yaml_too = serializers(ACCEPT=["json", "yaml"])
    assert yaml_too.decode(b"a: 1", "application/x-yaml", "utf-8") == {"a": 1}


@pytest.mark.parametrize("content_type", [None, "", "application/data"])
def test_a_body_without_type_is_handed_on_as_text(content_type: str | None) -> None:
    assert serializers().decode(b"hello", content_type, "utf-8") == "hello"


def test_an_empty_body_is_not_decoded() -> None:
    assert serializers().decode(b"", JSON, "utf-8") == ""


def test_a_compressed_body_is_decompressed() -> None:
    compressed = zlib.compress(b'{"a": 1}')
    assert serializers().decode(compressed, JSON, "utf-8", "application/x-gzip") == {"a": 1}
    for body, compression in ((b"no zlib", "application/x-gzip"), (compressed, "application/x-unknown")):
        with pytest.raises(UndecodableMessage):
            serializers().decode(body, JSON, "utf-8", compression)


@pytest.mark.parametrize("value", [object(), {"a": {1, 2}.__iter__()}, b"bytes".__iter__()])
def test_what_cannot_be_encoded_is_an_error_that_names_the_type(value: Any) -> None:
    with pytest.raises(TypeError, match=type(value).__name__ if not isinstance(value, dict) else "set_iterator"):
        serializers().encode(value)


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"serializer": "nonsense"}, "serializer 'nonsense' is not known; known are"),
        ({"ACCEPT": ["json", "nonsense"]}, "serializer 'nonsense' is not known"),
        (
            {"SERIALIZERS": {"mine": {**MINE, "encoder": "my_codec.encde"}}},
            "SERIALIZERS.mine.encoder: 'my_codec.encde'",
        ),
        (
            {"SERIALIZERS": {"mine": {**MINE, "decoder": "nowhere.at_all"}}},
            "SERIALIZERS.mine.decoder: 'nowhere.at_all'",
        ),
        ({"SERIALIZERS": {"mine": MINE | {"decoder": "my_codec.number"}}}, "my_codec.number is not a function"),
    ],
)
def test_a_serializer_that_is_not_there_is_a_problem_of_the_configuration(
    codec: types.ModuleType, config: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        serializers(**config)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ("application/json", "application/json"),
        ("application/x-yaml", "application/x-yaml"),
        ("application/x-python-serialize", "application/x-yaml"),  # not accepted, and so not sent either
        ("text/weird", "application/x-yaml"),
        (None, "application/x-yaml"),
        ("", "application/x-yaml"),
    ],
)
def test_an_answer_is_in_the_content_type_that_was_asked_in_or_in_our_own(asked: str | None, given: str) -> None:
    both = serializers(serializer="yaml", ACCEPT=["json", "yaml"])
    encoded = both.encode_as({"a": [1]}, asked)
    assert encoded.content_type == given
    assert both.decode(*encoded) == {"a": [1]}


def test_json_that_is_asked_for_is_the_projects_own() -> None:
    assert serializers(serializer="yaml", ACCEPT=["json"]).encode_as(WHEN, JSON).body == serializers().encode(WHEN).body


WITHOUT_KOMBU = """
import sys, zlib

from micro_framework.brokers.serializers import Serializers
from micro_framework.config import Settings

json = "application/json"
both = Serializers(Settings.from_mapping({}))
assert both.decode(*both.encode({"a": [1]})) == {"a": [1]}
assert both.encode_as(1, json).content_type == both.encode_as(1, "text/weird").content_type == json
assert not any(name.startswith("kombu") for name in sys.modules)

assert both.decode(b"hello", None, "utf-8") == "hello"
assert both.encode(1, "yaml").content_type == "application/x-yaml"
assert both.decode(zlib.compress(b"1"), json, "utf-8", "application/x-gzip") == 1
assert Serializers(Settings.from_mapping({})).accepted == both.accepted == {json}
"""


def test_kombu_is_imported_when_something_else_than_json_is_asked_for() -> None:
    subprocess.run([sys.executable, "-c", WITHOUT_KOMBU], check=True, timeout=60)
