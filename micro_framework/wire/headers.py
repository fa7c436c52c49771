"""Context data and call id stacks, as they travel in message headers.

Nameko puts ``nameko.`` before every key of the context data it sends and takes it off again on arrival. A
header without the prefix is taken as it is, so whatever a foreign client, or the broker, puts into the
headers becomes context data, and gets the prefix on its way out.

Headers of our own start with ``mf-``. They belong to one message only: `own_headers` reads them, and
neither `decode_context` nor `encode_context` lets them through, because a Nameko service in between would
take them for context data and send them on as ``nameko.mf-...`` for ever.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = [
    "CALL_ID_STACK",
    "CONTEXT_PREFIX",
    "DEADLINE",
    "OWN_PREFIX",
    "PARENT_CALLS_TRACKED",
    "deadline_from",
    "decode_context",
    "encode_context",
    "grow_stack",
    "immediate_parent_call_id",
    "is_dead_letter_trace",
    "new_call_id",
    "origin_call_id",
    "own_headers",
]

CONTEXT_PREFIX = "nameko."
"""What stands before every key of the context data (nameko 2.14.1 and 3.0.0rc11 messaging.py)."""
CALL_ID_STACK = "call_id_stack"
"""The key of the context data that holds the call id stack."""
OWN_PREFIX = "mf-"
"""What the headers start with that only micro_framework reads."""
PARENT_CALLS_TRACKED = 10
"""Nameko's default for the config key ``parent_calls_tracked``."""

DEADLINE = OWN_PREFIX + "deadline"
"""When the caller gives up, in milliseconds since 1970; on RPC requests only."""

STACK_HEADER = CONTEXT_PREFIX + CALL_ID_STACK


def encode_context(context: Mapping[str, Any], call_id_stack: Iterable[str] | None = None) -> dict[str, Any]:
    """The headers for context data and a call id stack, the stack last.

    Args:
        context: The context data. Entries that are None are dropped (inside nested values None stays), and
            so are keys that start with `OWN_PREFIX`.
        call_id_stack: The stack, oldest id first; None sends none, as Nameko's standalone event dispatcher
            does.

    Returns:
        A new dict; values are not copied.

    Source: nameko 2.14.1 and 3.0.0rc11 messaging.py; seen on the wire.
    """
    headers = {
        f"{CONTEXT_PREFIX}{key}": value
        for key, value in context.items()
        if value is not None and not key.startswith(OWN_PREFIX)
    }
    if call_id_stack is not None:
        headers[STACK_HEADER] = list(call_id_stack)
    return headers


def decode_context(headers: Mapping[str, Any] | None) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The context data and the call id stack in a message's headers.

    Args:
        headers: The message's headers, None where it has none.

    Returns:
        The context data, without the stack and without headers of our own, and the stack, oldest id first.
        The stack is empty where there is none. A stack that is a string counts by its characters, as in
        Nameko; one that is void or no sequence at all, which kills a Nameko service, counts as none.

    Source: nameko 2.14.1 and 3.0.0rc11 messaging.py and containers.py; seen on the wire.
    """
    if not headers:
        return {}, ()
    context = {}
    for name, value in headers.items():
        key = name.removeprefix(CONTEXT_PREFIX)
        if not key.startswith(OWN_PREFIX):
            context[key] = value
    stack = context.pop(CALL_ID_STACK, None)
    return context, tuple(stack) if isinstance(stack, (list, tuple, str)) else ()


def own_headers(headers: Mapping[str, Any] | None) -> dict[str, Any]:
    """The headers of our own, read only under their exact names, never as ``nameko.mf-...``.

    Args:
        headers: The message's headers, None where it has none.
    """
    return {name: value for name, value in (headers or {}).items() if name.startswith(OWN_PREFIX)}


def deadline_from(headers: Mapping[str, Any]) -> float | None:
    """When the caller of an RPC request gives up, in seconds since 1970; None where it does not say.

    Args:
        headers: The request's headers.
    """
    milliseconds = headers.get(DEADLINE)
    return milliseconds / 1000 if isinstance(milliseconds, int) and not isinstance(milliseconds, bool) else None


def new_call_id(service: str, method: str, identifier: str) -> str:
    """The id of one call.

    Args:
        service: The name of the service; for standalone clients ``standalone_rpc_proxy`` (nameko 2.14.1) or
            ``standalone_rpc_client`` (3.0.0rc11).
        method: The name of the method; for standalone clients ``call`` (2.14.1) or the client's identifier
            (3.0.0rc11).
        identifier: A ``uuid4`` with dashes, new for each call.

    Source: nameko 2.14.1 and 3.0.0rc11 containers.py and standalone/rpc.py; seen on the wire.
    """
    return f"{service}.{method}.{identifier}"


def grow_stack(
    incoming: Sequence[str], call_id: str, parent_calls_tracked: int = PARENT_CALLS_TRACKED
) -> tuple[str, ...]:
    """The call id stack of a call: the last of its parents, then the call itself.

    Args:
        incoming: The stack that came with the message, oldest id first; empty for a call without a parent.
        call_id: The id of this call.
        parent_calls_tracked: How many parents to keep; 0 keeps none.

    Source: nameko 2.14.1 and 3.0.0rc11 containers.py; seen on the wire (15 ids in, 11 out).
    """
    first_kept = max(0, len(incoming) - parent_calls_tracked)
    return (*incoming[first_kept:], call_id)


def origin_call_id(incoming: Sequence[str]) -> str | None:
    """The first id of the stack that came with the message, before any were dropped; None without a parent.

    Source: nameko 2.14.1 and 3.0.0rc11 containers.py; seen on the wire.
    """
    return incoming[0] if incoming else None


def immediate_parent_call_id(incoming: Sequence[str]) -> str | None:
    """The last id of the stack that came with the message; None without a parent.

    Source: nameko 2.14.1 and 3.0.0rc11 containers.py; seen on the wire.
    """
    return incoming[-1] if incoming else None


def is_dead_letter_trace(name: str) -> bool:
    """Whether a header is one that RabbitMQ adds when it dead-letters a message, delivers it again or delays it.

    A message that is published again must not carry them: RabbitMQ 3.10 believes them and drops what seems to go in
    circles, 4.x does not and counts wrong (seen on 3.10.8, 4.0.5 and 4.3.6).
    """
    return name in ("x-death", "x-delivery-count", "x-delay") or name.startswith(("x-first-death-", "x-last-death-"))
