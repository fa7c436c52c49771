"""Which serializers a configuration asks for."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, NamedTuple

import kombu.serialization

from nameko_compat.constants import (
    ACCEPT_CONFIG_KEY,
    DEFAULT_SERIALIZER,
    SERIALIZER_CONFIG_KEY,
    SERIALIZERS_CONFIG_KEY,
)
from nameko_compat.exceptions import ConfigurationError
from nameko_compat.utils import import_from_path
from nameko_compat.versions import chosen_config

__all__ = ["SerializationConfig", "setup"]


class SerializationConfig(NamedTuple):
    """The serializer for what is sent, and those of what is accepted."""

    serializer: str
    accept: list[str]


def setup(config: Mapping[str, Any] | None = None) -> SerializationConfig:
    """Register the configuration's own serializers with kombu, and say which are used.

    Args:
        config: The configuration (2.x); None: ``nameko_compat.config`` (3.x).

    Raises:
        ConfigurationError: It names one that is not registered.
    """
    chosen = chosen_config(config)
    for name, options in deepcopy(dict(chosen.get(SERIALIZERS_CONFIG_KEY) or {})).items():
        encoder, decoder = (import_from_path(options.pop(role)) for role in ("encoder", "decoder"))
        kombu.serialization.register(  # type: ignore[no-untyped-call]
            name, encoder=encoder, decoder=decoder, **options
        )
    serializer = chosen.get(SERIALIZER_CONFIG_KEY, DEFAULT_SERIALIZER)
    accept = list(chosen.get(ACCEPT_CONFIG_KEY, [serializer]))
    for name in (serializer, *accept):
        if name not in kombu.serialization.registry.name_to_type:
            raise ConfigurationError(f'Please register a serializer for "{name}" format, with the key SERIALIZERS')
    return SerializationConfig(serializer, accept)
