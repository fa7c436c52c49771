"""Tables: Nameko's names, what they become here, and what has to be looked at by a person."""

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = [
    "ABSENT_MODULES",
    "COMPAT",
    "CONSTANTS",
    "DECORATORS",
    "DROPPED",
    "EVENTLET",
    "FORMS",
    "HOSTS",
    "KINDS",
    "MOVED",
    "Form",
    "as_nameko",
    "is_absent",
    "is_nameko",
    "is_third_party",
]

COMPAT = "nameko_compat"
"""The package with Nameko's Python names; a rewritten file imports it, this one only writes its name."""

EVENTLET = frozenset({"eventlet", "greenlet", "gevent"})
"""Packages whose constructs work on green threads only."""


@dataclass(frozen=True)
class Form:
    """How a declaration of Nameko's is written here.

    Args:
        module: Where the native class is imported from.
        name: Its name.
        parameters: Nameko's positional parameters, each with the keyword it has here.
        keywords: Further keywords, each with the one it has here.
        positional: How many arguments may stay positional.
        note: What differs at run time, for the report; empty if nothing does.
    """

    module: str
    name: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    keywords: Mapping[str, str] = field(default_factory=dict)
    positional: int = 0
    note: str = ""


ENTRYPOINTS = "micro_framework.amqp.entrypoints"
DEPENDENCIES = "micro_framework.amqp.dependencies"
TICKS = (
    "Nameko's timer catches up ticks it has missed while the call before them ran; TimeEntrypoint leaves them out, as "
    "the target never overlaps itself"
)
SENDING = {"use_confirms": "confirm_publish", "mandatory": "mandatory"}
WAITS = (
    "a call waits RPC_TIMEOUT seconds (60) at most and then raises RPCTimeout; Nameko waits for ever. call_async() "
    "gives a future: result() may be asked again and takes a timeout"
)
PROXY = Form(DEPENDENCIES, "RPCProxy", {"target_service": "service_name"}, {}, 1, WAITS)

FORMS: Mapping[str, Form] = {
    "nameko.rpc.rpc": Form(
        ENTRYPOINTS,
        "RPCListener",
        {},
        {
            "expected_exceptions": "expected_exceptions",
            "sensitive_arguments": "sensitive_arguments",
            "sensitive_variables": "sensitive_arguments",
        },
    ),
    "nameko.events.event_handler": Form(
        ENTRYPOINTS,
        "EventListener",
        {
            "source_service": "source_service",
            "event_type": "event_name",
            "handler_type": "handler_type",
            "reliable_delivery": "reliable_delivery",
            "requeue_on_error": "requeue_on_error",
        },
        {},
        4,
    ),
    "nameko.messaging.consume": Form(
        ENTRYPOINTS, "QueueListener", {"queue": "queue", "requeue_on_error": "requeue_on_error"}, {}, 2
    ),
    "nameko.timer.timer": Form(
        "micro_framework.entrypoints", "TimeEntrypoint", {"interval": "interval", "eager": "eager"}, {}, 2, TICKS
    ),
    "nameko.events.EventDispatcher": Form(DEPENDENCIES, "Producer", {}, SENDING),
    "nameko.rpc.RpcProxy": PROXY,
    "nameko.rpc.ServiceRpc": PROXY,
    "nameko.rpc.ClusterRpc": Form(DEPENDENCIES, "ClusterRPCProxy", note=WAITS),
    "nameko.messaging.Publisher": Form(
        DEPENDENCIES,
        "Publisher",
        {"exchange": "exchange", "declare": "declare"},
        {"routing_key": "routing_key", **SENDING},
        1,
    ),
    "nameko.dependency_providers.Config": Form("micro_framework.dependencies", "Config"),
}
"""What a class may declare and what it becomes, by Nameko's full name."""

DROPPED: Mapping[str, str] = {
    "expected_exceptions": "only RPCListener takes it; these exceptions are logged as errors, no longer as warnings",
    "sensitive_arguments": "only RPCListener takes it; look at what your own code logs of the arguments",
    "sensitive_variables": "only RPCListener takes it; look at what your own code logs of the arguments",
}
"""Keywords of Nameko's entrypoints that the native one is left without."""

KINDS: Mapping[str, str] = {
    "nameko.rpc.rpc": "rpc",
    "nameko.events.event_handler": "event",
    "nameko.messaging.consume": "queue",
    "nameko.timer.timer": "timer",
    "nameko.web.handlers.http": "http",
    "nameko.web.websocket.rpc": "websocket",
    "nameko.testing.services.once": "once",
    "nameko.testing.services.dummy": "dummy",
}
"""Nameko's decorators for methods."""

DECORATORS: Mapping[str, str] = {
    "nameko.rpc.Rpc.decorator": "nameko.rpc.rpc",
    "nameko.events.EventHandler.decorator": "nameko.events.event_handler",
    "nameko.messaging.Consumer.decorator": "nameko.messaging.consume",
    "nameko.timer.Timer.decorator": "nameko.timer.timer",
    "nameko.web.handlers.HttpRequestHandler.decorator": "nameko.web.handlers.http",
    "nameko.web.websocket.WebSocketRpc.decorator": "nameko.web.websocket.rpc",
}
"""The same decorators by their longer names."""

CONSTANTS: Mapping[str, str] = {
    "nameko.events.SERVICE_POOL": "service_pool",
    "nameko.events.SINGLETON": "singleton",
    "nameko.events.BROADCAST": "broadcast",
}
"""Constants and their values."""

MOVED: Mapping[str, tuple[str, str]] = {
    **{name: ("micro_framework.wire.naming", name.rpartition(".")[2]) for name in CONSTANTS},
    **{
        f"nameko.exceptions.{name}": ("micro_framework.exceptions", name)
        for name in (
            *["IncorrectSignature", "MalformedRequest", "MethodNotFound", "RemoteError", "UnknownService"],
            "UnserializableValueError",
        )
    },
    "nameko.exceptions.RpcTimeout": ("micro_framework.exceptions", "RPCTimeout"),
}
"""Names that are the very same object elsewhere, so that any use of them may be imported from there."""

ABSENT_MODULES: Mapping[str, str] = {
    "nameko.amqp.consume": "a part of Nameko's inside, which is built differently here",
    "nameko.cli": "a part of Nameko's command line; use the command micro-framework",
    "nameko.testing.rabbit": "micro_framework.testing has a client of RabbitMQ's management API",
    "nameko.utils.concurrency": "it works on green threads; use concurrent.futures",
}
"""Modules that nameko_compat is without, and what to do instead."""


HOSTS = ("nameko.containers", "nameko.runners", "nameko.testing.services", "nameko.testing.utils")
"""Modules whose names work on services with Nameko's names, and not on native ones."""


def as_nameko(name: str) -> str:
    """A dotted name in nameko_compat as Nameko's."""
    return f"nameko{name.removeprefix(COMPAT)}" if f"{name}.".startswith(f"{COMPAT}.") else name


def is_nameko(name: str) -> bool:
    """Whether a dotted name is Nameko's own."""
    return name == "nameko" or name.startswith("nameko.")


def is_third_party(name: str) -> bool:
    """Whether a dotted name is from a package of extensions for Nameko."""
    head = name.partition(".")[0]
    return head.startswith("nameko_") and head != COMPAT


def is_absent(name: str) -> str | None:
    """What to do without a module, or a name in one, that nameko_compat does not have; None if it has it."""
    return next((why for module, why in ABSENT_MODULES.items() if f"{name}.".startswith(f"{module}.")), None)
