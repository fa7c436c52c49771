"""Every error micro_framework raises, as one tree whose names say whose fault it is.

::

    MicroFrameworkError
    ├── ProblemList                 several problems in one message
    │   ├── ConfigError             in the configuration
    │   └── DeclarationError        in the service's code
    ├── SetupFailed                 an extension's setup or start raised
    ├── NotInjected                 a dependency was touched on an instance no worker made
    ├── BrokerError
    │   ├── BrokerRefused           an answer that will not change: password, vhost, permission, flags
    │   ├── StartTimeout            the broker was not there within START_TIMEOUT
    │   └── PublishError            a message was not, or perhaps not, delivered
    │       ├── PublishTimeout      no answer in time: it may have been delivered
    │       ├── PublishRejected     the broker said no (basic.nack)
    │       ├── Unroutable          mandatory, and no queue was bound for it
    │       ├── UnknownExchange     the exchange does not exist
    │       └── MessageTooLarge     it does not fit the connection's frame or the broker's limit
    ├── CallsAbandoned              running calls did not finish within SHUTDOWN_TIMEOUT
    ├── WorkerDied                  the worker process that ran a call died
    ├── TooManyCrashes              too many workers or services have died of a message, so it is not run again
    ├── WireError                   a peer's message is not what Nameko's conventions allow
    │   └── UndecodableMessage      the body cannot be decoded
    └── RPCError
        ├── MethodNotFound          the service has no such target
        ├── IncorrectSignature      the arguments do not fit the target
        ├── MalformedRequest        the request lacks args or kwargs
        ├── UnserializableValueError   the result cannot be encoded
        ├── UnknownService          no queue is bound for the service
        └── RemoteError             the remote target raised
"""

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = [
    "BrokerError",
    "BrokerRefused",
    "CallsAbandoned",
    "ConfigError",
    "DeclarationError",
    "IncorrectSignature",
    "MalformedRequest",
    "MessageTooLarge",
    "MethodNotFound",
    "MicroFrameworkError",
    "NotInjected",
    "ProblemList",
    "PublishError",
    "PublishRejected",
    "PublishTimeout",
    "RPCError",
    "RemoteError",
    "SetupFailed",
    "StartTimeout",
    "TooManyCrashes",
    "UndecodableMessage",
    "UnknownExchange",
    "UnknownService",
    "Unroutable",
    "UnserializableValueError",
    "WireError",
    "WorkerDied",
]


class MicroFrameworkError(Exception):
    """Root of every error micro_framework raises."""


class ProblemList(MicroFrameworkError):
    """An error that lists every problem found, so that one run shows them all.

    Args:
        headline: What was looked at, lower case, without a full stop.
        problems: One readable sentence for each problem, with its fix.
    """

    def __init__(self, headline: str, problems: Sequence[str]) -> None:
        self.headline = headline
        self.problems = tuple(problems)
        super().__init__(headline, self.problems)

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return f"{self.headline}: {self.problems[0]}"
        return f"{self.headline}:\n" + "\n".join(f"  - {problem}" for problem in self.problems)


class ConfigError(ProblemList):
    """The configuration cannot be used; lists every problem with its fix."""


class DeclarationError(ProblemList):
    """A service's declarations cannot be used; lists every problem with class, method and fix."""


class SetupFailed(MicroFrameworkError):
    """An extension's ``setup`` or ``start`` raised, so the service did not start; ``__cause__`` is what it raised."""


class NotInjected(MicroFrameworkError, AttributeError):
    """A dependency was touched on an instance that no worker made."""


class BrokerError(MicroFrameworkError):
    """Something between this process and the broker."""


class BrokerRefused(BrokerError):
    """The broker gave an answer that will not change by trying again; the message says the fix."""


class StartTimeout(BrokerError):
    """The service was not connected and consuming within ``START_TIMEOUT``."""


class PublishError(BrokerError):
    """A message was not, or perhaps not, delivered."""


class PublishTimeout(PublishError):
    """The broker did not answer within ``PUBLISH_TIMEOUT``; the message may have been delivered."""


class PublishRejected(PublishError):
    """The broker refused the message (``basic.nack``, for instance a full queue)."""


class Unroutable(PublishError):
    """The message was mandatory and no queue is bound for its routing key."""


class UnknownExchange(PublishError):
    """The exchange published to does not exist."""


class MessageTooLarge(PublishError):
    """The message's headers or body exceed what the connection or the broker takes."""


class CallsAbandoned(MicroFrameworkError):
    """Running calls did not finish within ``SHUTDOWN_TIMEOUT``; their messages go back to the broker.

    Args:
        calls: The abandoned calls' names, ``Service.method``, one entry per running call.
        seconds: The budget they exceeded.
    """

    def __init__(self, calls: Sequence[str], seconds: float) -> None:
        self.calls = tuple(calls)
        self.seconds = seconds
        super().__init__(self.calls, seconds)

    def __str__(self) -> str:
        running = "1 running call" if len(self.calls) == 1 else f"{len(self.calls)} running calls"
        return (
            f"{running} did not finish within SHUTDOWN_TIMEOUT ({self.seconds:g} s) and had to "
            f"be abandoned; their messages are delivered again: {', '.join(self.calls)}"
        )


class WorkerDied(MicroFrameworkError):
    """The worker process that ran a call died: killed, out of memory, a segmentation fault or os._exit."""


class TooManyCrashes(MicroFrameworkError):
    """A message was there too often when a worker, a service or its connection ended, so it is not run again.

    Args:
        crashes: How often.
        limit: ``MAX_CRASHES``.
    """

    def __init__(self, crashes: int, limit: int) -> None:
        self.crashes = crashes
        self.limit = limit
        super().__init__(crashes, limit)

    def __str__(self) -> str:
        return (
            f"not run any more: {self.crashes} times a worker, a service or its connection has ended while it was "
            f"there (MAX_CRASHES is {self.limit}); the reason may be this message or one beside it"
        )


class WireError(MicroFrameworkError):
    """A peer's message is not what Nameko's conventions allow."""


class UndecodableMessage(WireError):
    """The body of a message cannot be decoded, or its content type is not accepted."""


class RPCError(MicroFrameworkError):
    """Root of what an RPC caller may see."""


class MethodNotFound(RPCError):
    """The service has no such target."""


class IncorrectSignature(RPCError):
    """The arguments of the call do not fit the target."""


class MalformedRequest(RPCError):
    """The request lacks ``args`` or ``kwargs``."""


class UnserializableValueError(RPCError):
    """The result cannot be encoded.

    Args:
        value: What could not be encoded.
    """

    def __init__(self, value: object) -> None:
        self.repr_value = repr(value)
        super().__init__()

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuilt, (type(self), (), {"repr_value": self.repr_value})

    def __str__(self) -> str:
        return f"Unserializable value: `{self.repr_value}`"


class UnknownService(RPCError):
    """No queue is bound for the service that was called.

    Args:
        service_name: The name that was called.
    """

    def __init__(self, service_name: str) -> None:
        self.service_name = service_name
        super().__init__(service_name)

    def __str__(self) -> str:
        return f"Unknown service `{self.service_name}`"


class RemoteError(RPCError):
    """The remote target raised an exception that is not registered here.

    Args:
        exc_type: The class name of the remote exception.
        value: Its text.
    """

    def __init__(self, exc_type: str | None = None, value: str | None = None) -> None:
        self.exc_type = exc_type
        self.value = value
        super().__init__(f"{exc_type} {value}")

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuilt, (type(self), self.args, {"exc_type": self.exc_type, "value": self.value})


def rebuilt(kind: type[Exception], args: tuple[Any, ...], attributes: Mapping[str, Any]) -> Exception:
    """An exception as it was pickled; its ``__init__`` takes other arguments than its ``args``, so it is not called."""
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(attributes)
    return error
