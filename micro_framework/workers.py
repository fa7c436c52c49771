"""`Worker`: one call of one target, from its dependencies to its outcome."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from micro_framework.calls import Call, Outcome
from micro_framework.dependencies import Dependency
from micro_framework.exceptions import IncorrectSignature
from micro_framework.extensions import Host
from micro_framework.signatures import ArgumentCheck
from micro_framework.targets import Dependencies, Target
from micro_framework.translators import MessageTranslator, translate

__all__ = ["Abandoned", "DependencyFailure", "Plan", "Runs", "RunsHere", "Worker"]


NOTHING: Mapping[str, Any] = {}
"""The values of no dependencies."""


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
        translate: Sends a call through the translators: its payload, or the whole of it.
        check: Tells whether the caller's arguments fit; None where the entrypoint is who calls.
    """

    host: Host
    target: Target
    translators: tuple[MessageTranslator, ...]
    observed: tuple[Dependency[Any], ...]
    translate: Callable[[tuple[MessageTranslator, ...], Call], Call]
    check: ArgumentCheck | None

    @classmethod
    def of(
        cls,
        host: Host,
        target: Target,
        translators: tuple[MessageTranslator, ...] = (),
        *,
        called_from_outside: bool = False,
    ) -> "Plan":
        """The plan for a target whose dependencies are bound.

        Args:
            host: The host of the route.
            target: The target.
            translators: The route's translators.
            called_from_outside: Whether a caller chooses the arguments: then they are checked, and translators get the
                whole `Call` instead of one payload.
        """
        dependencies = (dependency for _, dependency in (*target.attributes, *target.keywords))
        observed = tuple(d for d in dependencies if type(d).after_call is not Dependency.after_call)
        translated = translate_call if called_from_outside else translate_payload
        check = target.argument_check() if called_from_outside else None
        return cls(host, target, translators, observed, translated, check)


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
        """Translate, check, inject, call the target, tell the dependencies; never raises."""
        plan = self.plan
        target = plan.target
        try:
            if plan.translators or plan.check is not None:
                self.prepare()
        except BaseException as error:  # noqa: BLE001 - translators are the user's: a failure of the call
            return Outcome(error=error)
        given: list[Dependency[Any]] = []
        try:
            attributes = self.values(target.attributes, given) if target.attributes else NOTHING
            keywords = self.values(target.keywords, given) if target.keywords else NOTHING
        except DependencyFailure as failure:
            return self.tell(Outcome(error=failure), [d for d in plan.observed if d in given])
        outcome = self.call_target(attributes, keywords)
        return self.tell(outcome, plan.observed) if plan.observed else outcome

    def prepare(self) -> None:
        """Translate the call and check its arguments: of one that cannot be run no dependency hears.

        Raises:
            IncorrectSignature: The caller's arguments do not fit.
            BaseException: Whatever a translator raises.
        """
        plan = self.plan
        if plan.translators:
            self.call = plan.translate(plan.translators, self.call)
        if plan.check is not None and (problem := plan.check.problem(self.call.args, self.call.kwargs)) is not None:
            raise IncorrectSignature(problem)

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
        """Call; whatever is raised, ``SystemExit`` too, is a failure of this call and of nothing else."""
        try:
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


def translate_call(translators: tuple[MessageTranslator, ...], call: Call) -> Call:
    """A call as the translators have it.

    Raises:
        TypeError: They give something else.
    """
    translated = translate(translators, call)
    if not isinstance(translated, Call):
        raise TypeError(
            f"the translators of a target that is called get the Call and return one, not {type(translated).__name__}"
        )
    return translated


def translate_payload(translators: tuple[MessageTranslator, ...], call: Call) -> Call:
    """A call of one payload with that payload translated."""
    (payload,) = call.args
    return replace(call, args=(translate(translators, payload),))
