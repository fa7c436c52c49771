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
    names = takeover.names
    offer = new_side_offers(takeover)
    state = takeover.state()
    yield f"service {names.service}: {stage(state)}"
    for side, queue in (("old", names.old), ("new", names.new)):
        seen = state.queue(queue)
        yield f"{side} side: {queue}, {seen.consumers} consumers, {seen.messages} messages"
    for method in sorted(offer):
        yield f"  {names.key(method)}: {answering(state, method)}"
    if answers := takeover.configurations(state):
        yield f"old replicas, {answers.asked} probes: {answers.side} with the new config, {answers.main} with the old"
    if names.healing in state.queues and state.has(state.direct):
        yield f"STRAY: {state.direct} is there: a replica with the old configuration has started"
    yield from (f"PROBLEM: {each}" for each in (*state.problems(), *state.process_problems()))
    yield from (f"PROBLEM: {each}" for each in (*takeover.stranded(state), *takeover.lasting(State.unhealed)))
    yield from (f"note: {each}" for each in state.warnings(takeover.management.version()))


def new_side_offers(takeover: Takeover) -> frozenset[str]:
    """The methods of the new side; where somebody answers, the API has learnt of them when this returns."""
    state, names = takeover.state(), takeover.names
    if names.new not in state.queues or names.gate not in state.exchanges:
        return frozenset()
    offer = offered(takeover.management, names, ANSWER_SECONDS)
    if offer is not None:
        takeover.lasting(lambda state: [] if state.queue(names.new).consumers else ["not known yet"])
    return offer or frozenset()


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
