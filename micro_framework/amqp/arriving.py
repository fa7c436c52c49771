"""What the headers of a message say of the call that it causes."""

from collections.abc import Mapping
from typing import Any

from micro_framework.calls import CallIdentity
from micro_framework.entrypoints import RouteHandle
from micro_framework.identifiers import new_identifier
from micro_framework.parking import is_copy
from micro_framework.tracing import TRACE_HEADERS
from micro_framework.wire.headers import (
    decode_context,
    grow_stack,
    immediate_parent_call_id,
    is_dead_letter_trace,
    new_call_id,
    origin_call_id,
)

__all__ = ["arriving"]

TRACES = frozenset(TRACE_HEADERS)


def arriving(headers: Mapping[str, Any], route: RouteHandle, tracked: int) -> tuple[dict[str, Any], CallIdentity]:
    """The context data and the ids of the call: its own id is new, its parents' come from the headers.

    Args:
        headers: The message's headers; what the broker added to a copy that was put off does not count.
        route: Whose call it is.
        tracked: How many parents to keep (``parent_calls_tracked``).
    """
    context, parents = decode_context(without_traces(headers) if is_copy(headers) else headers)
    if not TRACES.isdisjoint(headers):  # of the two spellings this one is of whoever sent the message itself
        context |= {name: headers[name] for name in TRACES if name in headers}
    service, method = route.service, route.method
    call_id = new_call_id(service, method, new_identifier())
    if not parents:
        return context, CallIdentity(service, method, (call_id,))
    stack = grow_stack(parents, call_id, tracked)
    return context, CallIdentity(service, method, stack, origin_call_id(parents), immediate_parent_call_id(parents))


def without_traces(headers: Mapping[str, Any]) -> Mapping[str, Any]:
    """The headers of a message that was put off, without what the broker added meanwhile."""
    return {name: value for name, value in headers.items() if not is_dead_letter_trace(name)}
