"""Nameko's exceptions. Those that micro_framework raises too are the same classes."""

from collections.abc import Mapping
from typing import Any

from micro_framework.exceptions import (
    BadRequest,
    IncorrectSignature,
    MalformedRequest,
    MethodNotFound,
    RemoteError,
    ReplyQueueLost as ReplyQueueExpiredWithPendingReplies,
    RPCTimeout as RpcTimeout,
    UnknownService,
    UnserializableValueError,
)
from micro_framework.wire.errors import (
    REGISTERED_EXCEPTIONS as registry,  # noqa: N811 - Nameko's name
    error_object,
    exception_path as get_module_path,
    parse_error,
    register_exception as deserialize_to_instance,
    safe_for_serialization,
    to_exception,
)

__all__ = [
    "BadRequest",
    "CommandError",
    "ConfigurationError",
    "ConnectionNotFound",
    "ContainerBeingKilled",
    "ExtensionNotFound",
    "IncorrectSignature",
    "MalformedRequest",
    "MethodNotFound",
    "RemoteError",
    "ReplyQueueExpiredWithPendingReplies",
    "RpcTimeout",
    "UnknownService",
    "UnserializableValueError",
    "deserialize",
    "deserialize_to_instance",
    "get_module_path",
    "registry",
    "safe_for_serialization",
    "serialize",
]

WIRE_MODULE = "nameko.exceptions"
"""Where the others on the wire know these classes from."""


class ExtensionNotFound(AttributeError):
    """A service class has no extension of that name."""


class ContainerBeingKilled(Exception):
    """A worker was asked for while its container is being killed; whoever asked gives the work back."""


class ConfigurationError(Exception):
    """The configuration, or what a service class declares, cannot be used."""


class CommandError(Exception):
    """A command of the command line failed."""


class ConnectionNotFound(BadRequest):
    """There is no WebSocket connection of that id."""

    __module__ = WIRE_MODULE


def serialize(exc: BaseException) -> dict[str, Any]:
    """An exception as it travels."""
    return error_object(exc)


def deserialize(data: Mapping[str, Any]) -> Exception:
    """The exception of a received error: of its own class if that was registered, else a `RemoteError`."""
    return to_exception(parse_error(data))
