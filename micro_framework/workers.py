"""`Worker`: one call of one target, from its dependencies to its outcome."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from micro_framework.calls import Call, Outcome
from micro_framework.dependencies import Dependency
from micro_framework.extensions import Host
from micro_framework.targets import Dependencies, Target
from micro_framework.translators import MessageTranslator, translate

__all__ = ["Abandoned", "DependencyFailure", "Plan", "Runs", "RunsHere", "Worker"]


class DependencyFailure(Exception):
    """A dependency could not be had, so the target did not run; ``__cause__`` says why."""


class Abandoned(Exception):
    """The call was ended before it was over, because the time to stop is up: its message goes back."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What every call of a route has in common, worked out once at the start.

    Args:
        host: The host of the route.
        target: The target with its dependencies bound.
        translators: The route's translators.
        observed: The dependencies that want to hear of the end of a call (`Dependency.after_call`).
    """

    host: Host
    target: Target
    translators: tuple[MessageTranslator, ...]
    observed: tuple[Dependency[Any], ...]

    @classmethod
    def of(cls, host: Host, target: Target, translators: tuple[MessageTranslator, ...] = ()) -> "Plan":
        """The plan for a target whose dependencies are bound."""
        dependencies = (dependency for _, dependency in (*target.attributes, *target.keywords))
        observed = tuple(d for d in dependencies if type(d).after_call is not Dependency.after_call)
        return cls(host, target, translators, observed)


class Worker:
    """Runs one call; a fresh one for each. Subclass it and name it as ``worker_class=`` to change how calls are run.

    Args:
        plan: The route's plan.
        call: The call.
    """

    __slots__ = ("call", "plan")

    def __init__(self, plan: Plan, call: Call) -> None:
        self.plan = plan
        self.call = call

    @property
    def host(self) -> Host:
        """The host of the route."""
        return self.plan.host

    def run(self) -> Outcome:
        """Inject, translate, call the target, tell the dependencies; never raises."""
        target = self.plan.target
        given: list[Dependency[Any]] = []
        try:
            attributes = self.values(target.attributes, given)
            keywords = self.values(target.keywords, given)
        except DependencyFailure as failure:
            return self.tell(Outcome(error=failure), [d for d in self.plan.observed if d in given])
        outcome = self.call_target(attributes, keywords)
        return self.tell(outcome, self.plan.observed) if self.plan.observed else outcome

    def values(self, dependencies: Dependencies, given: list[Dependency[Any]]) -> Mapping[str, Any]:
        """What the dependencies give this call, by name; those that gave something are noted in ``given``."""
        values = {}
        for name, dependency in dependencies:
            try:
                values[name] = dependency.get_dependency(self)
            except BaseException as error:
                raise DependencyFailure(f"{name} ({dependency}): {type(error).__name__}: {error}") from error
            given.append(dependency)
        return values

    def call_target(self, attributes: Mapping[str, Any], keywords: Mapping[str, Any]) -> Outcome:
        """Translate and call; whatever is raised, ``SystemExit`` too, is a failure of this call and of nothing else."""
        try:
            if self.plan.translators:
                self.call = translated(self.call, self.plan.translators)
            return Outcome(self.plan.target.run(self.call, attributes, keywords))
        except BaseException as error:  # noqa: BLE001 - sys.exit() in a target must not end its worker
            return Outcome(error=error)

    def tell(self, outcome: Outcome, dependencies: Sequence[Dependency[Any]]) -> Outcome:
        """Tell dependencies how it ended; one that fails makes the call fail, if it has not failed already."""
        for dependency in dependencies:
            try:
                dependency.after_call(self, outcome.result, outcome.error)
            except BaseException as error:  # noqa: BLE001 - the other dependencies must hear of it all the same
                if outcome.error is None:
                    outcome = Outcome(error=error)
                else:
                    outcome.error.add_note(f"then after_call of {dependency} failed: {type(error).__name__}: {error}")
        return outcome


class Runs(Protocol):
    """Runs calls, wherever that is."""

    def run(self, plan: Plan, call: Call) -> tuple[Call, Outcome]:
        """Run one call; returns it as its target got it, and how it ended.

        Raises:
            BaseException: A failure of the call; `Abandoned` and `DependencyFailure` say that it does not count.
        """


class RunsHere:
    """Runs calls in the calling thread, each in a worker of its own.

    Args:
        worker_class: The class of the workers.
    """

    def __init__(self, worker_class: type[Worker]) -> None:
        self.worker_class = worker_class

    def run(self, plan: Plan, call: Call) -> tuple[Call, Outcome]:
        """Run one call."""
        worker = self.worker_class(plan, call)
        outcome = worker.run()
        return worker.call, outcome


def translated(call: Call, translators: tuple[MessageTranslator, ...]) -> Call:
    """A call of one payload with that payload translated."""
    (payload,) = call.args
    return Call(call.identity, (translate(translators, payload),), call.kwargs, call.context, call.attempt)
