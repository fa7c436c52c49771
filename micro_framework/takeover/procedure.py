"""The order of a takeover: which operations, after which checks. Nothing else in the project changes these bindings.

Where the entry is a policy, a call that an old replica's binding catches goes to the old side, once; so a method may be
bound at the gate before that binding goes. Where it is a binding, such a call would go to both sides; so that binding
must be away, and stay away, first. A rollback goes the other way about.
"""

import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from typing import cast

from micro_framework.brokers.errand import Errand
from micro_framework.brokers.rabbitmq.browser import RabbitMQBrowser
from micro_framework.config import Settings
from micro_framework.exceptions import BrokerError
from micro_framework.takeover.management import Management, ManagementRefused
from micro_framework.takeover.operations import (
    VHOST,
    Binding,
    Operation,
    bind,
    clear_policy,
    declare_exchange,
    declare_queue,
    delete_exchange,
    delete_queue,
    set_policy,
    unbind,
)
from micro_framework.takeover.probes import Answers, arriving, offered, old_configurations
from micro_framework.takeover.state import State, read_state
from micro_framework.takeover.waiting import send_on
from micro_framework.wire.takeover import Names

__all__ = ["ANSWER_SECONDS", "Refused", "Takeover"]

ANSWER_SECONDS = 5.0
"""How long the replicas of a side may take to answer."""
STAY_SECONDS = 1.0
LAG_SECONDS = 10.0
"""What the management API may lag behind: it collects figures every 5 s."""
POLL_SECONDS = 0.1
HEALING_SECONDS = 0.3
"""A class that has just found its healing queue takes the old binding away within this time."""
FEWEST_QUESTIONS = 16
"""Of two replicas one is missed by so many once in 2 ** 16 times."""
MARKER = {"x-max-length": 1}
FORBIDDEN = (401, 403)


class Refused(BrokerError):
    """A command is not done, for it would lose, double or strand calls.

    Args:
        problems: Each with its way out.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("refused, nothing was changed:\n" + "\n".join(f"  - {each}" for each in problems))
        self.problems = tuple(problems)


class Takeover:
    """The takeover of one service. For one thread, and one command at a time.

    Args:
        names: The takeover.
        management: The broker.
        say: Gets each line for the user.
        settings: How to reach the broker by AMQP.
        plan: Only say what would be done.
    """

    def __init__(
        self,
        names: Names,
        management: Management,
        say: Callable[[str], None],
        settings: Settings,
        *,
        plan: bool = False,
    ) -> None:
        self.names = names
        self.management = management
        self.say = say
        self.settings = settings
        self.plan = plan

    # The commands.

    def prepare(self, entry: str, calls: Sequence[str] = ()) -> None:
        """Put everything beside the way of the calls, which stays as it is.

        Args:
            entry: ``policy`` or ``binding``.
            calls: Services that the old one calls and that have not run on this broker yet.

        Raises:
            Refused: Something is in the way.
        """
        state = self.checked()
        if (entry == "policy" and state.by_binding) or (entry == "binding" and state.by_policy):
            other = "binding" if state.by_binding else "policy"
            raise Refused([f"{self.names.service} is prepared with the {other} entry; finish that first"])
        self.perform(self.preparation(state, entry, calls))
        if self.plan:
            return
        deadline = time.monotonic() + ANSWER_SECONDS
        while not self.state().prepared and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)  # a policy takes a moment to be applied
        if not self.state().prepared:
            raise BrokerError("the gate is not reached; look at 'migrate status', and prepare again")
        self.say(f"prepared. Now restart the replicas of the old {self.names.service} one by one with")
        self.say(f"    rpc_exchange: {self.names.side}")
        self.say("in their configuration. The key holds for the whole process: a process that hosts other services, or")
        self.say("publishes calls, must not get it unless all of its services are taken over. A replica of Nameko 3")
        self.say("that is stopped runs the calls that it has under way twice, takeover or not: choose a quiet hour.")
        self.warn(state)

    def move(self, methods: Sequence[str], *, waiting: bool = False) -> None:
        """Let methods run on the new side.

        Args:
            methods: Their names.
            waiting: Whether calls that wait in the old queue already are sent there too.

        Raises:
            Refused: It would lose or double calls.
        """
        names, state = self.names, self.healed(self.checked(prepared=True))
        problems = [*self.offer_problems(methods, state), *state.process_problems()]
        problems += [] if state.by_policy or state.cut_over else self.configuration_problems(state)
        self.refuse(problems)
        self.switch(state, methods)
        if not self.plan:
            self.require_direct(there=False)
            self.say(f"moved: {', '.join(names.key(each) for each in methods)}")
        if waiting:
            self.send_on(methods)
        elif not self.plan:
            self.warn(self.state())

    def send_on(self, methods: Sequence[str]) -> None:
        """Send the new side what waits for these methods in the old queue."""
        if self.plan:
            self.say(f"would send calls on that wait in {self.names.old}")
        else:
            self.say(f"sent on: {send_on(self.settings, self.names, methods)} calls that waited in {self.names.old}")

    def back(self, methods: Sequence[str]) -> None:
        """Let methods run on the old side again.

        Raises:
            Refused: Nobody would run them.
        """
        state = self.checked(prepared=True)
        if state.has(self.method("*")):
            raise Refused([f"the gate leads {self.names.all_methods} to the new side; take all back: migrate rollback"])
        self.refuse(self.stranded(state))
        self.perform([unbind(self.method(each)) for each in methods if state.has(self.method(each))])
        self.say_unless_planned(f"back on the old side: {', '.join(map(self.names.key, methods))}")

    def rollback(self) -> None:
        """Let everything run on the old side again.

        Raises:
            Refused: Nobody would run it.
        """
        state = self.checked(prepared=True)
        self.refuse(self.stranded(state))
        self.switch_back(state)
        if not self.plan:
            self.bind_again()
            self.require_direct(there=True)
            self.say("everything runs on the old side. The new side still answers what waits in its queue.")

    def finish(self, watch: float) -> None:
        """Take one of the last steps: run it again after each.

        Args:
            watch: Seconds in which no call may come to the old side.

        Raises:
            Refused: The step before it is not done.
        """
        state = self.checked(prepared=False)
        if self.names.healing in state.queues:
            if state.has(self.method("*")):
                self.refuse(self.old_consumers(state))
                self.hand_over(state)
            else:
                self.move_all(state, watch)
        elif state.prepared and not state.has(state.direct):
            raise Refused([self.start_plain()])
        else:
            self.clean_up(state)

    # The steps of `finish`.

    def old_consumers(self, state: State) -> list[str]:
        """Replicas of the old side."""
        seen = state.queue(self.names.old)
        if not seen.consumers:
            return []
        found = f"{self.names.old} still has {seen.consumers} consumers and holds {seen.messages} messages"
        return [f"{found}; stop the old replicas once it is empty, then run 'migrate finish' again"]

    def in_use(self, state: State) -> list[str]:
        """What still uses the new queue."""
        names, new = self.names, state.queue(self.names.new)
        if not new.messages and not new.consumers:
            return []
        seen = f"{names.new} has {new.messages} messages and {new.consumers} consumers"
        return [f"{seen}; wait until it is empty, then stop the replicas with LegacyService()"]

    def move_all(self, state: State, watch: float) -> None:
        """The first step: every call goes to the new side."""
        problems = [*self.stranded(state), *state.process_problems()]
        seen = {} if problems or self.plan else arriving(self.management, self.names, watch)
        if seen:
            shown = ", ".join(f"{method} ({count})" for method, count in sorted(seen.items()))
            problems.append(f"within {watch:g} s calls came to the old side: {shown}; move these methods first")
        self.refuse(problems)
        self.perform([bind(self.method("*"))])
        old = self.names.old
        self.say_unless_planned(
            f"every call goes to the new side. Move the event handlers too, stop the old replicas once {old} is empty "
            f"({state.queue(old).messages} messages now), and run 'migrate finish' again."
        )

    def hand_over(self, state: State) -> None:
        """The second step: the old queue is free for the class without `LegacyService`."""
        self.refuse(self.stranded(state))
        keys = [] if state.by_policy else [unbind(Binding(self.names.gate, key, self.names.new)) for key in state.keys]
        self.perform([delete_queue(self.names.healing), *keys])
        if not state.by_policy:
            self.say_unless_planned(f"calls wait in {self.names.old} until the class runs without LegacyService().")
        self.say_unless_planned(self.start_plain())

    def start_plain(self) -> str:
        return (
            f"start the new class without LegacyService() now: it consumes {self.names.old} and binds it as Nameko "
            "does. Then stop the replicas that still have it, and run 'migrate finish' again."
        )

    def clean_up(self, state: State) -> None:
        """The last step: nothing leads to what a takeover had."""
        names = self.names
        problems = (
            [] if state.has(state.direct) else [f"{names.old} is not bound to {names.main}: {self.start_plain()}"]
        )
        problems += self.lasting(self.in_use)
        if not problems and names.side in state.exchanges and state.queue(names.old).consumers and not self.plan:
            answers = self.configurations(state)
            if answers is not None and answers.side:
                problems.append(f"replicas still have rpc_exchange: {names.side}; give them the old one")
        self.refuse(problems)
        others = [each for each in state.bindings if each.source == names.entry and each.destination != names.gate]
        using_side = self.lasting(State.using_side)
        self.perform(self.removal(state, entry=not others, side=not others and not using_side))
        kept = [*(f"{names.entry} leads to {each.destination}" for each in others), *using_side]
        self.say_unless_planned("finished: nothing of the takeover is left." if not kept else "finished.")
        if kept:
            self.say_unless_planned(f"{names.side} stays, for it is in use: {', '.join(kept)}")

    def removal(self, state: State, *, entry: bool, side: bool) -> Iterator[Operation]:
        """Everything that is ours, the way in first."""
        names = self.names
        if names.new in state.queues:
            yield delete_queue(names.new, ("if-empty", "if-unused"))
        for exchange, _ in reversed(state.alternates()):
            if state.policy_name(exchange) in state.policies and (entry if exchange == names.main else side):
                yield clear_policy(state.policy_name(exchange))
        gone = [names.gate, names.rest, *([names.entry] if entry else []), *([names.side] if side else [])]
        for exchange in gone:
            if exchange in state.exchanges:
                yield delete_exchange(exchange)

    # The two switches, in the order that the entry asks for.

    def switch(self, state: State, methods: Sequence[str]) -> None:
        """Lead methods to the new side, and all calls to the gate."""
        moved = [bind(self.method(each)) for each in methods if not state.has(self.method(each))]
        away = self.cut_over(state)
        if state.by_policy:
            self.perform([*moved, *away])
        else:
            self.perform(away)
            self.require_staying_away()
            self.perform(moved)

    def switch_back(self, state: State) -> None:
        """Lead everything to the old side."""
        keys = [unbind(Binding(self.names.gate, key, self.names.new)) for key in state.keys]
        direct = [] if state.has(state.direct) else [bind(state.direct)]
        order = [*direct, *keys] if state.by_policy else [*keys, *direct]
        # The keys go in any case, so that a class which heals a moment too late does no harm.
        self.perform([delete_queue(self.names.healing), *order])

    def bind_again(self) -> None:
        """Once a class that was just healing is through with it, have the binding that it took away once more."""
        time.sleep(HEALING_SECONDS)
        state = self.state()
        if not state.has(state.direct):
            self.perform([bind(state.direct)])

    # Operations.

    def preparation(self, state: State, entry: str, calls: Sequence[str]) -> Iterator[Operation]:
        """What `prepare` does, without what is there already."""
        names = self.names
        for name in (names.side, names.rest):
            if name not in state.exchanges:
                yield declare_exchange(name)
        if names.new not in state.queues:
            yield declare_queue(names.new)
        bindings = [
            Binding(names.side, names.all_methods, names.old),
            Binding(names.side, "*", names.main, to_queue=False),
            Binding(names.main, "*", names.side, to_queue=False),
            Binding(names.rest, names.all_methods, names.old),
        ]
        if entry == "binding":
            for other in sorted({*state.others, *calls} - {names.service}):
                bindings.append(state.way_out(other))
        yield from (bind(each) for each in bindings if each not in state.bindings)
        if names.gate not in state.exchanges:
            yield declare_exchange(names.gate, {"alternate-exchange": names.rest})
        if entry == "binding":
            # A second path to the same queue: the broker delivers once.
            way_in = Binding(names.main, names.all_methods, names.gate, to_queue=False)
            yield from (bind(each) for each in [way_in] if each not in state.bindings)
            return
        if names.entry not in state.exchanges:
            yield declare_exchange(names.entry)
        way_in = Binding(names.entry, names.all_methods, names.gate, to_queue=False)
        yield from (bind(each) for each in [way_in] if each not in state.bindings)
        for exchange, alternate in state.alternates():
            if state.alternate_of(exchange) != alternate:
                yield set_policy(state.policy_name(exchange), exchange, alternate)

    def cut_over(self, state: State) -> list[Operation]:
        """Let calls come to the gate alone, and let the new side see to it."""
        marker = [] if self.names.healing in state.queues else [declare_queue(self.names.healing, MARKER)]
        return [*marker, *([unbind(state.direct)] if state.has(state.direct) else [])]

    def method(self, method: str) -> Binding:
        """What leads a method to the new side."""
        return Binding(self.names.gate, self.names.key(method), self.names.new)

    # Checks.

    def state(self) -> State:
        """What there is now. Consumers as the queues know them, for the HTTP API tells of them seconds later."""
        state = read_state(self.management, self.names)
        sides = [queue for queue in (self.names.old, self.names.new) if queue in state.queues]
        return state.with_consumers(self.consumers(sides)) if sides else state

    def consumers(self, queues: Sequence[str]) -> dict[str, int]:
        """How many consumers queues have."""
        with Errand(self.settings, f"takeover-{self.names.service}") as errand:
            browser = cast(RabbitMQBrowser, errand.browser)
            seen = {queue: browser.seen(queue, errand.deadline()) for queue in queues}
        return {queue: found[1] for queue, found in seen.items() if found is not None}

    def checked(self, *, prepared: bool = False) -> State:
        """What there is now, if it is as it must be.

        Raises:
            Refused: It is not.
        """
        state = self.state()
        self.refuse(list(state.problems()))
        if prepared and not state.prepared:
            service = self.names.service
            raise Refused([f"{service} is not prepared: micro-framework migrate prepare {service}"])
        return state

    def healed(self, state: State) -> State:
        """What there is once the new side, where it heals, had the time to take a replica's binding away again."""
        if self.names.healing not in state.queues:
            return state
        self.lasting(self.direct_there)
        return self.state()

    def direct_there(self, state: State) -> list[str]:
        """The binding that an old replica makes."""
        return [f"{state.direct} is there"] if state.has(state.direct) else []

    def refuse(self, problems: Sequence[str]) -> None:
        """Raise the problems, if there are any."""
        if problems:
            raise Refused(problems)

    def offer_problems(self, methods: Sequence[str], state: State) -> Iterator[str]:
        """Methods that the running new side does not have."""
        if self.names.new not in state.queues:
            yield f"there is no queue {self.names.new}: prepare again"
            return
        offer = offered(self.management, self.names, ANSWER_SECONDS)
        if offer is None:
            yield (
                f"nobody at {self.names.new} said within {ANSWER_SECONDS:g} s which methods there are; start the new "
                "class, with LegacyService(), first"
            )
            return
        for method in methods:
            if method not in offer:
                yield f"the new side has no method {method!r}; it has {', '.join(sorted(offer)) or 'none'}"

    def configurations(self, state: State) -> Answers | None:
        """How the replicas of the old side are configured; None where there are none."""
        replicas = state.queue(self.names.old).consumers
        if not replicas or self.names.side not in state.exchanges:
            return None
        return old_configurations(self.management, self.names, max(4 * replicas, FEWEST_QUESTIONS), ANSWER_SECONDS)

    def configuration_problems(self, state: State) -> list[str]:
        """Old replicas that would bind their queue to the main exchange again, at their next reconnect."""
        answers = self.configurations(state)
        if answers is None:
            return []
        restart = f"restart them with rpc_exchange: {self.names.side}; with the binding entry that comes before a move"
        if answers.main:
            return [f"replicas with the old config answered {answers.main} of {answers.asked} probes; {restart}"]
        if missing := answers.asked - answers.side:
            told = f"{missing} of {answers.asked} probes were not answered by the old side"
            return [f"{told}: a replica is too busy, perhaps one with the old config; try again, or {restart}"]
        return []

    def lasting(self, problems: Callable[[State], list[str]]) -> list[str]:
        """Problems that are still there when the API has learnt of messages, which takes seconds."""
        deadline = time.monotonic() + LAG_SECONDS
        while found := problems(self.state()):
            if self.plan or time.monotonic() >= deadline:
                break
            time.sleep(POLL_SECONDS)
        return found

    def stranded(self, state: State) -> list[str]:
        """Queues that hold messages which nobody consumes."""
        return self.lasting(self.stranded_now)

    def stranded_now(self, state: State) -> list[str]:
        """The same, as far as the API knows by now."""
        found = []
        for name in (self.names.old, self.names.new):
            queue = state.queue(name)
            if queue.messages and not queue.consumers:
                found.append(f"{name} holds {queue.messages} messages and nobody consumes it; start its side first")
        return found

    def require_staying_away(self) -> None:
        """After a moment the old queue is still not bound to the main exchange.

        Raises:
            BrokerError: It is: a replica with the old configuration came.
        """
        if not self.plan:
            time.sleep(STAY_SECONDS)
            self.require_direct(there=False)

    def require_direct(self, *, there: bool) -> None:
        """Look once more whether the old queue is bound to the main exchange.

        Raises:
            BrokerError: It is not as it must be.
        """
        state = self.state()
        if state.has(state.direct) != there:
            what = "was not made" if there else "came back: a replica with the old configuration has started"
            raise BrokerError(f"the binding {state.direct} {what}; look at 'migrate status', and run this again")

    # Saying and doing.

    def perform(self, operations: Sequence[Operation] | Iterator[Operation]) -> None:
        """Do the operations one after the other, or only say them."""
        for operation in list(operations):
            self.say(f"{'would ' if self.plan else ''}{operation.text}")
            if self.plan and operation.for_operators:
                self.say(f"    an operator may do it: {self.operators_line(operation)}")
            if not self.plan:
                self.perform_one(operation)

    def perform_one(self, operation: Operation) -> None:
        """Do one operation.

        Raises:
            BrokerError: It could not be done; what an operator can do about it is said.
        """
        try:
            operation.perform(self.management)
        except ManagementRefused as refusal:
            if not operation.for_operators or refusal.status not in FORBIDDEN:
                raise
            raise BrokerError(
                f"{refusal}; a policy needs a user with the tag policymaker: have an operator run\n"
                f"    {self.operators_line(operation)}\nand run this again, or use --entry binding"
            ) from refusal

    def operators_line(self, operation: Operation) -> str:
        """The command line for an operator."""
        return operation.for_operators.replace(VHOST, shlex.quote(self.management.vhost_name))

    def warn(self, state: State) -> None:
        """Say what is no reason to refuse, and good to know."""
        for each in state.warnings(self.management.version()):
            self.say(f"note: {each}")

    def say_unless_planned(self, text: str) -> None:
        """Say it if it was done."""
        if not self.plan:
            self.say(text)
