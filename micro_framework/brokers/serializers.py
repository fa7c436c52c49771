"""Bodies: from Python values to bytes and back, by content type, as the configuration allows.

JSON is the project's own (`micro_framework.wire`), everything else is kombu's serializer registry, whose names
``serializer`` and ``ACCEPT`` use, as in Nameko.

kombu is imported when something else than JSON is asked for, or arrives: that takes a quarter of a service's start.
"""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, cast

from micro_framework.config import SerializerSettings, Settings
from micro_framework.exceptions import ConfigError, UndecodableMessage
from micro_framework.targets import resolve
from micro_framework.wire.json_types import JSONTypes, dumps, loads
from micro_framework.wire.messages import JSON_CONTENT_TYPE, JSON_ENCODING

__all__ = ["RAW_TYPES", "Encoded", "Serializers"]

RAW_TYPES = (None, "", "application/data")
"""Content types of bodies that are handed on as they are: kombu trusts them always, whatever ``ACCEPT`` says (seen with
nameko 2.14.1 and 3.0.0rc11: the handler gets the text)."""


class Encoded(NamedTuple):
    """A body with what its properties say about it."""

    body: bytes
    content_type: str
    content_encoding: str


class Serializers:
    """Encodes and decodes bodies. Thread safe.

    Args:
        settings: ``serializer``, ``ACCEPT``, ``SERIALIZERS`` and ``JSON_TYPES`` are read.

    Raises:
        ConfigError: A name is not known, or a dotted path in ``SERIALIZERS`` names nothing.
    """

    def __init__(self, settings: Settings) -> None:
        register_serializers(settings.serializers)
        self.name = settings.serializer
        self.json_types = cast(JSONTypes, settings.json_types)
        content_types([self.name])
        self.accepted = content_types(settings.accept)
        self.names = names_of(self.accepted)

    def encode(self, value: Any, serializer: str | None = None) -> Encoded:
        """Encode a value with the configured serializer, or the one named.

        Raises:
            TypeError, ValueError: It cannot be encoded; the message names the type.
        """
        name = serializer or self.name
        if name == "json":
            return Encoded(dumps(value, self.json_types), JSON_CONTENT_TYPE, JSON_ENCODING)
        content_type, content_encoding, body = kombu_serialization().dumps(value, serializer=name)
        return Encoded(body.encode() if isinstance(body, str) else bytes(body), content_type, content_encoding)

    def encode_as(self, value: Any, content_type: str | None) -> Encoded:
        """Encode a value for somebody who reads this content type; with the configured serializer if nobody knows it.

        Raises:
            TypeError, ValueError: It cannot be encoded; the message names the type.
        """
        return self.encode(value, self.names.get(content_type))

    def decode(
        self, body: bytes, content_type: str | None, content_encoding: str | None, compression: str | None = None
    ) -> Any:
        """Decode a body.

        Args:
            body: As it was delivered.
            content_type: The property; None where the sender gave none.
            content_encoding: The property; None where the sender gave none.
            compression: The header of that name, which kombu, and so Nameko with ``compression=``, sends along.

        Raises:
            UndecodableMessage: Its content type is not accepted, or it is not what its content type says.
        """
        if content_type not in RAW_TYPES and content_type not in self.accepted:
            raise UndecodableMessage(
                f"content type {content_type!r} is not accepted; ACCEPT allows {', '.join(sorted(self.accepted))}"
            )
        if not body:
            return ""  # as kombu: an empty body is not decoded
        try:
            if compression is not None:
                body = decompress(body, compression)
            if content_type == JSON_CONTENT_TYPE:
                return loads(body)
            return kombu_serialization().loads(body, content_type, content_encoding, accept=self.accepted)
        except Exception as error:
            raise UndecodableMessage(f"not valid {content_type or 'text'}: {error}") from error


def kombu_serialization() -> Any:
    """kombu's registry, imported now if need be; it has no types."""
    import kombu.serialization

    return kombu.serialization


def decompress(body: bytes, compression: str) -> Any:
    import kombu.compression

    return kombu.compression.decompress(body, compression)  # type: ignore[no-untyped-call]


def json_suffices(asked: Iterable[str], json: str) -> bool:
    """Whether nothing but JSON is asked for, and nobody has had a reason to import kombu's registry."""
    return set(asked) <= {json} and "kombu.serialization" not in sys.modules


def names_of(types: frozenset[str]) -> Mapping[str | None, str]:
    """The serializers' names, by content type."""
    if json_suffices(types, JSON_CONTENT_TYPE):
        return {JSON_CONTENT_TYPE: "json"}
    known: Mapping[str, str] = kombu_serialization().registry.type_to_name
    return {each: known[each] for each in types if each in known}


def content_types(names: Sequence[str]) -> frozenset[str]:
    """The content types of kombu's serializer names.

    Raises:
        ConfigError: A name is not registered.
    """
    if json_suffices(names, "json"):
        return frozenset((JSON_CONTENT_TYPE,))
    known: Mapping[str, str] = kombu_serialization().registry.name_to_type
    if unknown := sorted({name for name in names if name not in known}):
        raise ConfigError(
            "the configuration cannot be used",
            [f"serializer {name!r} is not known; known are {', '.join(sorted(known))}" for name in unknown],
        )
    return frozenset(known[name] for name in names)


def register_serializers(serializers: Mapping[str, SerializerSettings]) -> None:
    """Register the user's own serializers with kombu (Nameko's ``SERIALIZERS``)."""
    for name, entry in serializers.items():
        kombu_serialization().register(
            name,
            coder(f"SERIALIZERS.{name}.encoder", entry.encoder),
            coder(f"SERIALIZERS.{name}.decoder", entry.decoder),
            content_type=entry.content_type,
            content_encoding=entry.content_encoding,
        )


def coder(key: str, path: str) -> Callable[..., Any]:
    """The function that a dotted path of ``SERIALIZERS`` names."""
    try:
        found = resolve(path)
    except ValueError as error:
        raise ConfigError("the configuration cannot be used", [f"{key}: {error}"]) from error
    if not callable(found):
        raise ConfigError("the configuration cannot be used", [f"{key}: {path} is not a function"])
    return found
