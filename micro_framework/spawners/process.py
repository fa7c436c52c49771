"""Workers that are processes: ``process`` and ``greedy_process``.

A thread does in the service what must be done there: it decodes a message, has a process run the call, and sees to
retries, callbacks and the verdict. So a process that dies takes nothing with it but the one call that it was running,
and whatever a target does, the connections of the service are looked after. There are as many threads as processes,
and up to as many more that send calls ahead while they are short, see `berths`.
"""

import logging
import pickle
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from micro_framework.calls import Call, Outcome
from micro_framework.exceptions import TaskTimeout, WorkerDied
from micro_framework.extensions import Lifecycle
from micro_framework.spawners.blueprint import Birth, Blueprint, RoutePlan
from micro_framework.spawners.child import Child, ChildGone, TakenBack
from micro_framework.spawners.crossing import Answer, Request, Role, pack_call, pack_request, unpack_answer
from micro_framework.spawners.failures import failure_of
from micro_framework.spawners.keeper import Keeper, Limits, never
from micro_framework.spawners.log_mirror import logging_now
from micro_framework.spawners.main_module import MainModule
from micro_framework.spawners.thread import Entry, ThreadSpawner, WorkerThread
from micro_framework.spawners.work import BERTHS, LONGEST_REQUEST
from micro_framework.targets import Target
from micro_framework.workers import Abandoned, Plan

__all__ = ["ProcessSpawner", "RemoteRoute"]

logger = logging.getLogger(__name__)

ABANDON_SECONDS = 5.0
"""How long the threads may take to hand back the calls whose processes have been killed."""

NOT_BEGUN = 3
"""Processes that may die one after the other before they begin a call, until that counts as their dying of it."""


class ProcessSpawner(ThreadSpawner):
    """A pool of worker processes, and the threads of the service that have them run calls.

    Args:
        blueprint: What the processes are built from; routes are added to it until `prepare` is called.
        greedy: Whether to finish at stop what already waits.
        limits: What the processes are allowed.
        lifecycle: Where readiness and failures are reported.
    """

    def __init__(self, blueprint: Blueprint, *, greedy: bool, limits: Limits, lifecycle: Lifecycle) -> None:
        super().__init__(blueprint.context, blueprint.workers, greedy=greedy)
        self.blueprint = blueprint
        self.limits = limits
        self.keeper = Keeper(blueprint.context, blueprint.workers, limits, lifecycle)
        self.packed = b""
        self.main: MainModule | None = None
        self.ending = False

    def __str__(self) -> str:
        return str(self.keeper)

    def add(self, route: RoutePlan) -> int:
        """Note a route; returns the number it goes by."""
        self.blueprint.routes.append(route)
        return len(self.blueprint.routes) - 1

    def prepare(self) -> list[str]:
        """Make ready what the processes are told, once every route is there; returns what cannot be told, and why."""
        self.packed, self.main, problems = self.blueprint.pack()
        return problems

    @property
    def lookout(self) -> None:
        """None: its threads wait for processes."""

    def is_ready(self) -> bool:
        """Whether every process has been set up, with its dependencies connected."""
        return self.keeper.ready

    def start(self) -> None:
        """Start the processes and wait until they are set up; then the threads.

        Raises:
            DeclarationError: The processes found something wrong with the service's targets.
            SetupFailed: A process could not be set up, or not within ``START_TIMEOUT``.
        """
        config = self.blueprint.settings.logging
        birth = Birth(
            list(sys.argv),
            self.main,
            None if config is None else pickle.dumps(config),
            logging_now() if config is None else (),
            self.packed,
        )
        self.keeper.launch(pickle.dumps(birth), sys.path)
        self.threads += self.further_threads()
        super().start()

    def further_threads(self) -> list[WorkerThread]:
        """Those that send calls ahead: as many as there are berths left, and messages that can wait for them.

        A single process has none: with two threads its calls could change places.
        """
        workers, context = self.blueprint.workers, self.blueprint.context
        messages = self.blueprint.prefetch * len(self.blueprint.routes)
        numbers = range(workers, min(BERTHS * workers, messages)) if workers > 1 else ()
        return [WorkerThread(f"mf-worker-{context}-{number}", self.next_to_send_ahead) for number in numbers]

    def next_to_send_ahead(self) -> Entry | None:
        """The next job for a thread that only sends calls ahead; where they are long, it leaves them to the others."""
        self.keeper.berths.gate.wait()
        return self.jobs.get()

    def finish_waiting(self) -> None:
        """As threads do; a call that waits behind another one has not been begun either."""
        self.ending = not self.greedy
        super().finish_waiting()
        self.keeper.berths.finish()

    def stop(self, deadline: float) -> list[str]:
        """As threads do; a process that still runs a call at the deadline is killed, and then every process ends."""
        labels = super().stop(deadline)
        if labels:
            self.keeper.abandon()
            self.join(time.monotonic() + ABANDON_SECONDS)
        self.keeper.end()
        return labels

    def ask(self, request: Request, call: Call, target: Target) -> Answer:
        """Have a process run a call.

        Args:
            request: The call as it is sent.
            call: The call.
            target: The target, for messages.

        Returns:
            What it answers; where it died of the call, an outcome with `WorkerDied`, or `TaskTimeout` where it was
            killed for it.

        Raises:
            DependencyFailure: There is no process to run it.
            Abandoned: The time to stop is up.
        """
        frame = pack_request(request)
        unless = self.goes_back if request.role == Role.TARGET else never
        berths = self.keeper.berths
        ahead, tries = len(frame) <= LONGEST_REQUEST, 0
        while tries < NOT_BEGUN:
            berth = self.keeper.take(ahead=ahead, unless=unless)
            try:
                answer = berth.ask(frame)
            except ChildGone:
                answer = None
            except TakenBack:
                ahead = False
                continue
            finally:
                if berths.give_back(berth):
                    self.keeper.replace(berth.child)
            if answer is not None:
                return unpack_answer(answer, call, berth.child, target)
            if berth.child.abandoned:
                raise Abandoned
            if berth.began:
                break
            tries += 1
        # Not raised: where in this module it came to light is nothing that a log should show.
        return Answer(call, Outcome(error=self.cause_of_death(berth.child, call.identity.call_id)))

    def goes_back(self) -> bool:
        """Whether the call of this thread is not begun any more: its message comes again. A callback always is."""
        entry = getattr(threading.current_thread(), "running", None)
        return self.ending and entry is not None and entry[0].comes_again(entry[1])

    def cause_of_death(self, child: Child, call_id: str) -> BaseException:
        """What a process died of."""
        code = child.exit_code()
        if child.overdue and self.limits.task_timeout is not None:
            return TaskTimeout(call_id, self.limits.task_timeout)
        return WorkerDied(call_id, code)


class RemoteRoute:
    """Runs the calls of one route in the processes of a pool.

    Args:
        spawner: The pool.
        number: The route's number there.
        callback: The plan of its callback, None for none.
        result_wanted: Whether somebody wants the result of the next call.
        result_needed: Whether a call has failed whose result cannot be sent.
    """

    def __init__(
        self,
        spawner: ProcessSpawner,
        number: int,
        *,
        callback: Plan | None,
        result_wanted: Callable[[], bool],
        result_needed: bool,
    ) -> None:
        self.spawner = spawner
        self.number = number
        self.callback = callback
        self.result_wanted = result_wanted
        self.result_needed = result_needed

    def run(self, plan: Plan, call: Call) -> tuple[Call, Outcome]:
        """Run a call of the target, or of the callback; returns it as the function left it, and how it ended.

        Raises:
            Exception: It could not be sent, or not run; see `ProcessSpawner.ask`.
        """
        if plan is self.callback:
            request = self.callback_request(call)
        else:
            returned = self.callback is not None
            request = Request(self.number, Role.TARGET, self.result_wanted(), pack_call(call), returned=returned)
        answer = self.spawner.ask(request, call, plan.target)
        if answer.dropped is not None and not self.result_needed:
            logger.warning("%s; nobody needs it, so the call counts as done", answer.dropped)
            return answer.call, Outcome()
        return answer.call, answer.outcome

    def callback_request(self, call: Call) -> Request:
        """The request for a call of the callback; the exception goes beside the arguments, as plain data."""
        kwargs = dict(call.kwargs)
        error = kwargs.pop("exception", None)
        failure = failure_of(error) if isinstance(error, BaseException) else None
        return Request(self.number, Role.CALLBACK, False, pack_call(replace(call, kwargs=kwargs)), failure)
