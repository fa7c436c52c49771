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
    ├── NotPicklable                a value cannot be sent between a service and its worker processes
    ├── CallsAbandoned              running calls did not finish within SHUTDOWN_TIMEOUT
    ├── CopyFailed                  one of several copies (PROCESSES) cannot run, or did not stop cleanly
    ├── WorkerDied                  a worker process ended while it ran a call
    ├── TooManyCrashes              workers or services have died of a message so often that it is not run any more
    ├── TaskTimeout                 a call ran longer than TASK_TIMEOUT, so its worker process was killed
    ├── WireError                   a peer's message is not what Nameko's conventions allow
    │   └── UndecodableMessage      the body cannot be decoded
    └── RPCError
        ├── BadRequest              the caller's fault
        │   ├── MethodNotFound      the service has no such target
        │   ├── IncorrectSignature  the arguments do not fit the target
        │   └── MalformedRequest    the request lacks args or kwargs
        ├── UnserializableValueError   the result cannot be encoded
        ├── UnknownService          no queue is bound for the service
        ├── RPCTimeout              no answer in time: the call may have been carried out, or may yet be
        ├── ConnectionLost          the connection broke before the answer came (WebSocket)
        ├── ServiceBusy             too many calls are under way, or the service stops; try again (WebSocket)
        ├── ReplyQueueLost          the queue for the answers was deleted or has expired, and they with it
        └── RemoteError             the remote target raised
"""

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = [
    "BadRequest",
    "BrokerError",
    "BrokerRefused",
    "CallsAbandoned",
    "ConfigError",
    "ConnectionLost",
    "CopyFailed",
    "DeclarationError",
    "IncorrectSignature",
    "MalformedRequest",
    "MessageTooLarge",
    "MethodNotFound",
    "MicroFrameworkError",
    "NotInjected",
    "NotPicklable",
    "ProblemList",
    "PublishError",
    "PublishRejected",
    "PublishTimeout",
    "RPCError",
    "RPCTimeout",
    "RemoteError",
    "ReplyQueueLost",
    "ServiceBusy",
    "SetupFailed",
    "StartTimeout",
    "TaskTimeout",
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


class CopyFailed(MicroFrameworkError):
    """One of several copies of a service (``PROCESSES``) cannot run, or did not stop cleanly.

    Args:
        text: What happened, and to which copy.
        exit_code: That of the command line.
    """

    def __init__(self, text: str, exit_code: int = 1) -> None:
        self.text = text
        self.exit_code = exit_code
        super().__init__(text, exit_code)

    def __str__(self) -> str:
        return self.text


# These have the same numbers on every system.
SIGNAL_NAMES = {
    1: "SIGHUP",
    2: "SIGINT",
    3: "SIGQUIT",
    4: "SIGILL",
    6: "SIGABRT",
    8: "SIGFPE",
    9: "SIGKILL",
    11: "SIGSEGV",
    15: "SIGTERM",
}


class WorkerDied(MicroFrameworkError):
    """The worker process ended while it ran this call, and nothing else fails with it.

    Args:
        call: The call's id, ``service.method.uuid``.
        exit_code: The exit code of the process; minus the signal's number if a signal killed it.
    """

    def __init__(self, call: str, exit_code: int) -> None:
        self.call = call
        self.exit_code = exit_code
        super().__init__(call, exit_code)

    @property
    def signal(self) -> int | None:
        """The number of the signal that killed the process, None if it ended by itself."""
        return -self.exit_code if self.exit_code < 0 else None

    @staticmethod
    def ending(exit_code: int) -> str:
        """How a process ended, in words; ``exit_code`` as above."""
        if exit_code >= 0:
            return f"ended with exit code {exit_code}"
        name = SIGNAL_NAMES.get(-exit_code)
        hint = ": by somebody, or by the system for want of memory" if name == "SIGKILL" else ""
        return f"was killed by {f'{name} (signal {-exit_code}{hint})' if name else f'signal {-exit_code}'}"

    def __str__(self) -> str:
        return f"the worker process that ran call {self.call} {self.ending(self.exit_code)}"


class TaskTimeout(MicroFrameworkError, TimeoutError):
    """The call ran longer than ``TASK_TIMEOUT``, so its worker process was killed.

    Args:
        call: The call's id, ``service.method.uuid``.
        seconds: The limit.
    """

    def __init__(self, call: str, seconds: float) -> None:
        self.call = call
        self.seconds = seconds
        super().__init__(call, seconds)

    def __str__(self) -> str:
        return f"call {self.call} ran longer than TASK_TIMEOUT ({self.seconds:g} s); its worker process was killed"


class NotPicklable(MicroFrameworkError, TypeError):
    """A value cannot be sent between a service and its worker processes; the message names its type."""


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


class BadRequest(RPCError):
    """The call cannot be carried out as it was asked for; as in Nameko, where services derive their own from it."""


class MethodNotFound(BadRequest):
    """The service has no such target."""


class IncorrectSignature(BadRequest):
    """The arguments of the call do not fit the target."""


class MalformedRequest(BadRequest):
    """The request lacks ``args`` or ``kwargs``."""


class UnserializableValueError(RPCError):
    """The result cannot be encoded.

    Args:
        value: What could not be encoded.
    """

    def __init__(self, value: object) -> None:
        try:
            self.repr_value = repr(value)
        except Exception:  # noqa: BLE001 - a user's __repr__, or too many digits: there is an error to tell of
            self.repr_value = f"<{type(value).__name__} without a repr>"
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


class RPCTimeout(RPCError, TimeoutError):
    """No answer came in time; the call may have been carried out, or may yet be.

    Args:
        service_name: The service that was called.
        method: The method that was called.
        seconds: How long the answer was waited for.
        why: What is known of the reason.
    """

    def __init__(self, service_name: str, method: str, seconds: float, why: str = "") -> None:
        self.service_name = service_name
        self.method = method
        self.seconds = seconds
        self.why = why
        super().__init__(str(self))  # one text: an OSError takes several arguments for errno and file names

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.service_name, self.method, self.seconds, self.why)

    def __str__(self) -> str:
        seconds = f"{self.seconds:.3f}".rstrip("0").rstrip(".")
        why = f": {self.why}" if self.why else ""
        return f"{self.service_name}.{self.method} did not answer within {seconds} s{why}"


class ReplyQueueLost(RPCError):
    """The queue for the answers is gone, so answers may be lost; the call may have been carried out.

    Args:
        service_name: The service that was called.
        method: The method that was called.
        queue: The queue that was lost.
        why: What became of it.
    """

    def __init__(self, service_name: str, method: str, queue: str, why: str = "was deleted or has expired") -> None:
        self.service_name = service_name
        self.method = method
        self.queue = queue
        self.why = why
        super().__init__(service_name, method, queue, why)

    def __str__(self) -> str:
        return (
            f"the answer of {self.service_name}.{self.method} may be lost: the reply queue {self.queue!r} {self.why}; "
            "the call may have been carried out"
        )


class ConnectionLost(RPCError):
    """The connection broke before the answer came; the call may have been carried out."""


class ServiceBusy(RPCError):
    """Too many calls are under way, or the service is stopping: the call was not run and can be tried again."""


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
