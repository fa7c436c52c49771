"""What ``micro-framework migrate status`` says."""

from collections.abc import Iterator

from micro_framework.takeover.probes import offered
from micro_framework.takeover.procedure import ANSWER_SECONDS, Takeover
from micro_framework.takeover.state import State

__all__ = ["lines"]


def lines(takeover: Takeover) -> Iterator[str]:
    """One line after the other; only asks.

    Raises:
        BrokerError: No answer.
    """
    state, names = takeover.state(), takeover.names
    yield f"service {names.service}: {stage(state)}"
    for side, queue in (("old", names.old), ("new", names.new)):
        seen = state.queue(queue)
        yield f"{side} side: {queue}, {seen.consumers} consumers, {seen.messages} messages"
    if names.new in state.queues and names.gate in state.exchanges:
        offer = offered(takeover.management, names, ANSWER_SECONDS)
        for method in sorted(offer or ()):
            yield f"  {names.key(method)}: {answering(state, method)}"
    if answers := takeover.configurations(state):
        yield f"old replicas, {answers.asked} probes: {answers.side} with the new config, {answers.main} with the old"
    if names.healing in state.queues and state.has(state.direct):
        yield f"STRAY: {state.direct} is there: a replica with the old configuration has started"
    yield from (f"PROBLEM: {each}" for each in (*state.problems(), *state.process_problems()))
    yield from (f"PROBLEM: {each}" for each in (*takeover.stranded(state), *takeover.lasting(State.unhealed)))
    yield from (f"note: {each}" for each in state.warnings(takeover.management.version()))


def stage(state: State) -> str:
    """How far it is."""
    if not state.prepared:
        return "not prepared"
    entry = "policy" if state.by_policy else "binding"
    if not state.cut_over:
        return f"prepared ({entry} entry), everything runs on the old side"
    return f"cut over ({entry} entry), methods run on the side named below"


def answering(state: State, method: str) -> str:
    """The side that runs a method."""
    if not state.cut_over or not {state.names.key(method), state.names.all_methods} & set(state.keys):
        return "old side"
    return "new side"
