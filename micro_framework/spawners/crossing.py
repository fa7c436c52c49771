"""What crosses between a service and its worker processes: a `Call` on the way there, an `Outcome` on the way back.

Both are bytes of pickled tuples of built-in types; whatever is the user's own is pickled by itself inside them. So
whoever reads a frame can always read its outside, and what is wrong inside is the failure of one call.
"""

import pickle
from collections.abc import Iterator, Mapping, Set as AbstractSet
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple

from micro_framework.calls import FIRST_ATTEMPT, Call, CallIdentity, Outcome
from micro_framework.exceptions import NotPicklable
from micro_framework.spawners.failures import Failure, failure_of, load_known, pickled_or_none, rebuilt
from micro_framework.targets import Target

__all__ = [
    "Answer",
    "Request",
    "ReturnedCall",
    "Role",
    "pack_answer",
    "pack_call",
    "pack_request",
    "type_name",
    "unpack_answer",
    "unpack_call",
    "unpack_request",
]

PROTOCOL = 5

PLAIN = (type(None), bool, int, float, str, bytes)
"""Results of these very types are sent as they are."""

HOW_DEEP = 20


class Role(IntEnum):
    """Which of a route's two functions to run."""

    TARGET = 0
    CALLBACK = 1


class Request(NamedTuple):
    """One call for a worker process.

    Args:
        route: The number of the route among those that the process has.
        role: Which function.
        wanted: Whether anybody wants the result.
        call: The call, see `pack_call`.
        failure: What the target raised, for its callback.
        returned: Whether the call, if it fails, is wanted back as the target left it, for the callback.
    """

    route: int
    role: int
    wanted: bool
    call: bytes
    failure: Failure | None = None
    returned: bool = False


@dataclass(frozen=True, slots=True)
class ReturnedCall(Call):
    """A call that was in a worker process, as its target left it.

    Args:
        packed: The call for the next worker process; what it holds may not be known in this one.
        problem: Why it could not come back, empty if it could.
    """

    packed: bytes = b""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a request.

    Args:
        call: The call, perhaps as the target left it.
        outcome: How it ended.
        dropped: Why the result was left behind, None where it was not.
    """

    call: Call
    outcome: Outcome
    dropped: str | None = None


def pack_call(call: Call) -> bytes:
    """A call as bytes.

    Raises:
        NotPicklable: Something in it cannot be pickled.
    """
    if isinstance(call, ReturnedCall):
        if call.problem:
            raise NotPicklable(call.problem)
        return call.packed
    identity, attempt = tuple(call.identity), None if call.attempt is FIRST_ATTEMPT else call.attempt
    fields = (identity, call.args, call.kwargs, call.context, attempt, call.deadline)
    try:
        return pickle.dumps(fields, PROTOCOL)
    except Exception as error:
        raise NotPicklable(
            f"an argument of {call.identity.service}.{call.identity.method} cannot be sent to a worker process: "
            f"{why(fields, error)}"
        ) from error


def unpack_call(packed: bytes) -> Call:
    """The call of `pack_call`, in a worker process.

    Raises:
        Exception: Whatever the user's classes raise when they are unpickled.
    """
    return call_of(pickle.loads(packed))  # noqa: S301 - from the service that this process belongs to


def call_of(fields: Any) -> Call:
    """A call from its fields."""
    identity, args, kwargs, context, attempt, deadline = fields
    attempt = FIRST_ATTEMPT if attempt is None else attempt
    return Call(CallIdentity(*identity), args, kwargs, context, attempt, deadline)


def pack_request(request: Request) -> bytes:
    """A request as bytes; the exception, if there is one, as plain data."""
    failure = None if request.failure is None else tuple(request.failure)
    return pickle.dumps(
        (request.route, int(request.role), request.wanted, request.call, failure, request.returned), PROTOCOL
    )


def unpack_request(frame: bytes) -> Request:
    """The request of `pack_request`."""
    route, role, wanted, call, failure, returned = pickle.loads(frame)  # noqa: S301 - from this process's service
    return Request(route, role, wanted, call, None if failure is None else Failure(*failure), returned)


class Kind(IntEnum):
    """What an answer holds."""

    PLAIN = 0
    """A result as it is."""
    PICKLED = 1
    """A result, pickled by itself."""
    DROPPED = 2
    """No result, and why: it cannot be sent."""
    FAILED = 3
    """An exception."""


def pack_answer(request: Request, received: Call | None, left: Call | None, outcome: Outcome) -> bytes:
    """An answer as bytes. Never raises on account of what is in it.

    Args:
        request: What is answered.
        received: The call as it was received; None if it could not be unpacked.
        left: The call as its target left it, likewise.
        outcome: How it ended.
    """
    kind, body = packed_outcome(request, outcome)
    back = None
    if left is not None and (left is not received or (outcome.error is not None and request.returned)):
        back = packed_back(left)
    return pickle.dumps((int(kind), body, back), PROTOCOL)


def packed_outcome(request: Request, outcome: Outcome) -> tuple[Kind, Any]:
    """The kind and the body of an outcome."""
    if outcome.error is not None:
        return Kind.FAILED, tuple(failure_of(outcome.error))
    if not request.wanted:
        return Kind.PLAIN, None
    if type(outcome.result) in PLAIN:
        return Kind.PLAIN, outcome.result
    try:
        return Kind.PICKLED, pickle.dumps(outcome.result, PROTOCOL)
    except Exception as error:  # noqa: BLE001 - whatever a user's __reduce__ raises
        return Kind.DROPPED, why(outcome.result, error)


def packed_back(call: Call) -> bytes | str:
    """A call on its way back, as the next worker process gets it; where that fails, why."""
    try:
        return pack_call(call)
    except NotPicklable as error:
        return str(error)


def unpack_answer(frame: bytes, call: Call, child: object, target: Target) -> Answer:
    """The answer of `pack_answer`, in the service.

    Args:
        frame: The bytes.
        call: The call that was sent.
        child: The process that answered, for messages.
        target: The target, likewise.
    """
    kind, body, back = pickle.loads(frame)  # noqa: S301 - built-in types only; what is the user's is bytes in here
    left = call if back is None else returned_call(call, back)
    if kind == Kind.FAILED:
        return Answer(left, Outcome(error=rebuilt(Failure(*body), where=str(child))))
    if kind == Kind.PICKLED:
        try:
            return Answer(left, Outcome(load_known(body)))
        except Exception as error:  # noqa: BLE001 - whatever a user's class raises
            kind, body = Kind.DROPPED, f"{type(error).__name__}: {error}"
    if kind == Kind.DROPPED:
        text = f"the result of {target.description} cannot be sent from its worker process: {body}; return plain data"
        return Answer(left, Outcome(error=NotPicklable(text)), dropped=text)
    return Answer(left, Outcome(body))


def returned_call(sent: Call, back: bytes | str) -> Call:
    """The call as the target left it, with as much of its arguments as is known here."""
    packed, problem = (back, "") if isinstance(back, bytes) else (b"", back)
    try:
        seen = sent if problem else call_of(load_known(packed))
    except Exception:  # noqa: BLE001 - a user's class raises; what is seen here is only for those who look on
        seen = sent
    return ReturnedCall(
        seen.identity, seen.args, seen.kwargs, seen.context, seen.attempt, seen.deadline, packed=packed, problem=problem
    )


def why(value: object, error: Exception) -> str:
    """Which part of a value cannot be pickled, by its type, and what pickle says about it."""
    return f"{type_name(culprit(value))} cannot be pickled ({type(error).__name__}: {error})"


def type_name(value: object) -> str:
    """The name of a value's type, with its module unless that is ``builtins``."""
    cls = type(value)
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def culprit(value: object) -> object:
    """The first value in lists, tuples, sets and mappings within one another that cannot be pickled."""
    for _ in range(HOW_DEEP):
        found = next((part for part in parts_of(value) if pickled_or_none(part) is None), None)
        if found is None:
            break
        value = found
    return value


def parts_of(value: object) -> Iterator[object]:
    """What a container holds."""
    if isinstance(value, Mapping):
        yield from value.keys()
        yield from value.values()
    elif isinstance(value, list | tuple | AbstractSet):
        yield from value
