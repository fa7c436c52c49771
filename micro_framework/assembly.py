"""Assembly: from what a service declares to bound routes, with every problem found on the way in one error.

Nothing here connects, starts or waits.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from types import UnionType
from typing import TYPE_CHECKING

from micro_framework.clock import Clock
from micro_framework.config import ContextSettings, Settings
from micro_framework.dependencies import Dependency
from micro_framework.entrypoints import Entrypoint
from micro_framework.exceptions import DeclarationError
from micro_framework.extensions import Extension, Host, Lifecycle, SharedExtensions
from micro_framework.retry import AsyncBackOff
from micro_framework.routes import BoundRoute, CallbackRoute, Observer, Route
from micro_framework.services import routes_of, service_name
from micro_framework.spawners.base import WORKER_MODES, Spawner, is_greedy, uses_processes
from micro_framework.spawners.overtime import Overtime, TimedRuns
from micro_framework.spawners.thread import ThreadSpawner
from micro_framework.targets import FoundTargets, Target, WantedTargets, find_targets
from micro_framework.workers import Plan, Runs, RunsHere, Worker

if TYPE_CHECKING:  # imported where worker processes or metrics are asked for: without them a service starts sooner
    from micro_framework.metrics.tallies import Tallies
    from micro_framework.spawners.process import ProcessSpawner, RemoteRoute

__all__ = [
    "DEFAULT_CONTEXT",
    "Assembler",
    "Assembly",
    "Declared",
    "Placement",
    "RunnerContext",
    "assemble",
    "dependencies_of",
]

logger = logging.getLogger(__name__)

DEFAULT_CONTEXT = "default"


NO_MEMORY = (
    "WORKER_MODE process does not go with AMQP_URI memory://, for the embedded broker is inside this process, where "
    "worker processes cannot reach it; set AMQP_URI to a RabbitMQ (nothing, if nothing needs a broker), or use "
    "WORKER_MODE thread"
)


class RunnerContext:
    """A pool of workers with the routes that run in it.

    Args:
        routes: Routes and service classes.
        name: The pool's name, unique in a runner; None: ``default``, or ``context-<n>`` where that is taken.
        max_workers: How many workers; None: ``MAX_WORKERS``.
        worker_mode: Their kind; None: ``WORKER_MODE``.
        context_metric_label: The pool's name in metrics, instead of ``name``.
    """

    def __init__(
        self,
        routes: Sequence[type | Route],
        name: str | None = None,
        max_workers: int | None = None,
        worker_mode: str | None = None,
        context_metric_label: str | None = None,
    ) -> None:
        if isinstance(routes, type | Route):
            alone = getattr(routes, "__name__", "route")
            raise TypeError(f"a RunnerContext takes a list of routes: RunnerContext([{alone}], ...)")
        self.routes = tuple(routes)
        self.name = name
        self.settings = ContextSettings(max_workers, worker_mode)
        self.context_metric_label = context_metric_label


Declared = type | Route | RunnerContext
"""What a runner takes: service classes, routes and contexts."""


@dataclass(frozen=True, slots=True)
class Placement:
    """A route, the service it belongs to, and the context that holds it (None: as the route says)."""

    route: Route
    service: str | None
    context: str | None
    where: str


@dataclass(slots=True)
class Assembly:
    """Everything a runner runs.

    Args:
        routes: The bound routes.
        spawners: The pools, by the name of their context.
        modes: Their worker modes, likewise.
        shared: The shared extensions.
        metric_labels: What contexts are called in metrics, where that is not their name.
    """

    routes: list[BoundRoute] = field(default_factory=list)
    spawners: dict[str, Spawner] = field(default_factory=dict)
    modes: dict[str, str] = field(default_factory=dict)
    shared: SharedExtensions = field(default_factory=SharedExtensions)
    metric_labels: dict[str, str] = field(default_factory=dict)

    def dependencies(self) -> list[Extension]:
        """Every bound dependency that works in this process, once; worker processes have their own."""
        here = [route for route in self.routes if not uses_processes(self.modes[route.host.context])]
        return list(dict.fromkeys(dependency for route in here for dependency in dependencies_of(route)))

    def entrypoints(self) -> list[Extension]:
        """Every bound entrypoint."""
        return [route.entrypoint for route in self.routes]


def dependencies_of(route: BoundRoute) -> Iterator[Extension]:
    """The bound dependencies of a route's target and callback."""
    for plan in (route.plan, route.callback):
        if plan is not None:
            yield from (dependency for _, dependency in (*plan.target.attributes, *plan.target.keywords))


class Assembler:
    """Puts one runner together; used once.

    Args:
        settings: The configuration.
        clock: The runner's clock.
        lifecycle: Where extensions report.
        observers: The runner's list of observers.
        tallies: Where things are counted, None for nowhere.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        lifecycle: Lifecycle,
        observers: Sequence[Observer],
        tallies: "Tallies | None" = None,
    ) -> None:
        self.tallies = tallies
        self.settings = settings
        self.clock = clock
        self.lifecycle = lifecycle
        self.observers = observers
        self.contexts: dict[str, ContextSettings] = dict(settings.contexts)
        self.named: set[str] = set()  # contexts that a RunnerContext has claimed
        self.problems: list[str] = []
        self.assembly = Assembly()
        self.process_pools: dict[str, ProcessSpawner] = {}  # those of the spawners whose workers are processes
        self.declared_at: dict[Extension, str] = {}

    def assemble(self, services: Iterable[Declared]) -> Assembly:
        """Bind every route.

        Raises:
            DeclarationError: With all problems.
        """
        if isinstance(services, type | Route | RunnerContext):
            self.problems.append(f"a runner takes a list of services: Runner([{name_of(services)}], config)")
            services = ()
        placements = list(self.placements(services))
        if not placements and not self.problems:
            self.problems.append("there is nothing to run: no class has an entrypoint, and no route was given")
        for placement in placements:
            self.place(placement)
        if not self.problems:
            self.note(None, self.claimed_twice())
        for extension in dict.fromkeys((*self.assembly.shared.bound.values(), *self.declared_at)):
            self.note(self.declared_at.get(extension), extension.problems())
        self.note(None, self.process_problems())
        if self.problems:
            raise DeclarationError("the service cannot run as it is declared", self.problems)
        return self.assembly

    def placements(self, services: Iterable[Declared]) -> Iterator[Placement]:
        """Every route of everything given, contexts first so that ``context=`` can name them."""
        declared = list(services)
        for item in declared:
            if isinstance(item, RunnerContext):
                name = self.add_context(item)
                yield from (placement for route in item.routes for placement in self.placed(route, name))
        for item in declared:
            if not isinstance(item, RunnerContext):
                yield from self.placed(item, None)

    def add_context(self, context: RunnerContext) -> str:
        """Note a context's settings under its name."""
        name = context.name or (DEFAULT_CONTEXT if DEFAULT_CONTEXT not in self.named else f"context-{len(self.named)}")
        if name in self.named:
            self.problems.append(f"two contexts are called {name!r}; give each RunnerContext a name of its own")
        self.named.add(name)
        if context.context_metric_label:
            self.assembly.metric_labels[name] = context.context_metric_label
        self.note(f"RunnerContext {name!r}", context_problems(context.settings))
        self.contexts[name] = filled_up(context.settings, self.contexts.get(name, ContextSettings()))
        return name

    def placed(self, item: object, context: str | None) -> Iterator[Placement]:
        """The placements of one class or route."""
        if isinstance(item, Route):
            yield Placement(item, item.service or self.settings.service_name, context, f"Route({item.target!r})")
        elif isinstance(item, type):
            yield from self.placed_class(item, context)
        else:
            self.problems.append(f"{item!r} is not a service class, a Route or a RunnerContext")

    def placed_class(self, service: type, context: str | None) -> Iterator[Placement]:
        """The placements of a service class."""
        routes = routes_of(service)
        name = service_name(service) or self.settings.service_name
        if not routes:
            self.problems.append(f"class {service.__qualname__} has no entrypoint; decorate a method with one")
        for route in routes:
            yield Placement(route, name, context, f"{service.__qualname__}.{route.method_name}")

    def place(self, placement: Placement) -> None:
        """Bind one route, or note why it cannot be."""
        if misplaced := list(misplaced_in(placement.route)):
            self.note(placement.where, misplaced)
            return
        problems = list(self.problems_of(placement))
        found = self.targets_of(placement, problems)
        self.note(placement.where, problems)
        # Bound with problems too: its extensions may have more to tell, and all are told at once.
        entrypoint = placement.route.entrypoint.bind(self.host(placement))
        self.declared_at[entrypoint] = placement.where
        if found.target is not None:
            self.bind(placement, entrypoint, found.target, found.callback)

    def claimed_twice(self) -> Iterator[str]:
        """Different targets that would take each other's messages."""
        claims: dict[str, BoundRoute] = {}
        for route in self.assembly.routes:
            if (claim := route.entrypoint.claim()) is None:
                continue
            first = claims.setdefault(claim, route).plan.target
            target = route.plan.target
            if (first.owner, first.function) != (target.owner, target.function):
                yield (
                    f"{first.description} and {target.description} would share {claim}, and each message would go to "
                    "only one of them; give the method, or the service, another name"
                )

    def process_problems(self) -> Iterator[str]:
        """What keeps the service from having worker processes; makes ready what they will be told."""
        pools = self.process_pools.values()
        if pools and (self.settings.amqp_uri or "").startswith("memory:"):
            yield NO_MEMORY
        for pool in pools:
            yield from pool.prepare()
        if not pools and self.settings.max_tasks_per_child is not None:
            logger.warning("MAX_TASKS_PER_CHILD does nothing: no context has a WORKER_MODE with processes")

    def note(self, where: str | None, problems: Iterable[str]) -> None:
        """Note problems with the place in the user's code that they are about, each once."""
        texts = (f"{where}: {problem}" if where else problem for problem in problems)
        self.problems += [text for text in texts if text not in self.problems]

    def problems_of(self, placement: Placement) -> Iterator[str]:
        """What is wrong with a placement, apart from its targets."""
        route, entrypoint = placement.route, placement.route.entrypoint
        if placement.service is None:
            yield 'the service has no name; give the class name = "..." or set SERVICE_NAME in the config'
        if (name := self.context_name(placement)) not in self.contexts and name != DEFAULT_CONTEXT:
            yield f"context={name!r} names no RunnerContext and no key of CONTEXTS"
        if isinstance(route, CallbackRoute) and route.callback is None:
            yield "a CallbackRoute needs callback_function_path= or callback_target="
        if route.dead_letter and (problem := entrypoint.parking_problem()):
            yield problem
        if route.backoff is not None:
            yield from route.backoff.problems()
            if not entrypoint.retryable:
                yield f"{type(entrypoint).__name__} cannot retry; leave out backoff="
        if route.translators and not entrypoint.translatable:
            yield f"{type(entrypoint).__name__} has no message to translate; leave out translators="
        if not is_worker_class(route.worker_class):
            yield f"worker_class must be a subclass of Worker, not {route.worker_class!r}"

    def targets_of(self, placement: Placement, problems: list[str]) -> FoundTargets:
        """The route's target and callback; what keeps them from being found is added to the problems."""
        wanted = wanted_targets(placement.route)
        # What is only named is imported where it runs.
        found = find_targets(wanted, import_paths=not self.has_processes(self.context_name(placement)))
        problems += found.problems
        warn_of_unused(found, wanted)
        return found

    def bind(self, placement: Placement, entrypoint: Entrypoint, target: Target, callback: Target | None) -> None:
        """Bind the route's dependencies and put the pipeline together."""
        route = placement.route
        host = self.host(placement)
        plan = self.plan(host, target, route)
        callback_plan = self.plan(host, callback, None) if callback else None
        spawner = self.spawner(host)
        bound = self.kind_of_routes()(
            plan,
            entrypoint,
            spawner,
            worker_class=route.worker_class,
            policy=route.backoff.policy if route.backoff else None,
            callback=callback_plan,
            dead_letter=self.parks(route),
            observers=self.observers,
            runs=self.runs(placement, spawner, target, callback_plan),
        )
        self.measure(bound, route)
        self.assembly.routes.append(bound)
        for dependency in dependencies_of(bound):
            self.declared_at.setdefault(dependency, declared_at(dependency, placement.where, target))

    def kind_of_routes(self) -> type[BoundRoute]:
        """What routes are, depending on whether things are counted."""
        if self.tallies is None:
            return BoundRoute
        from micro_framework.measured import MeasuredRoute

        return MeasuredRoute

    def measure(self, bound: BoundRoute, route: Route) -> None:
        """Have a route count, where things are counted."""
        if self.tallies is None:
            return
        from micro_framework.measured import MeasuredRoute

        if isinstance(bound, MeasuredRoute):
            label = route.metric_label or bound.method
            context = bound.host.context
            tally = self.tallies.route(bound.service, label, self.assembly.metric_labels.get(context, context))
            bound.measured_by(tally, self.tallies.recent, label)

    def parks(self, route: Route) -> bool:
        """Whether what has failed for good is parked; the default counts where that makes sense."""
        wanted = self.settings.dead_letter if route.dead_letter is None else route.dead_letter
        return bool(wanted) and route.entrypoint.parking_problem() is None

    def spawner(self, host: Host) -> Spawner:
        """The pool of a context."""
        spawners, context = self.assembly.spawners, host.context
        if context not in spawners:
            mode = self.assembly.modes[context] = self.worker_mode(context)
            if self.has_processes(context):
                spawners[context] = self.process_pools[context] = self.process_pool(host, greedy=is_greedy(mode))
            else:
                limit = self.task_timeout(context)
                overtime = Overtime(context, limit) if limit is not None else None
                spawners[context] = ThreadSpawner(context, host.workers, greedy=is_greedy(mode), overtime=overtime)
        return spawners[context]

    def process_pool(self, host: Host, *, greedy: bool) -> "ProcessSpawner":
        """The worker processes of a context."""
        from micro_framework.spawners.blueprint import Blueprint
        from micro_framework.spawners.keeper import Limits
        from micro_framework.spawners.process import ProcessSpawner

        own, common = self.contexts.get(host.context, ContextSettings()), self.settings
        limits = Limits(
            common.start_timeout,
            self.task_timeout(host.context),
            common.max_tasks_per_child if own.max_tasks_per_child is None else own.max_tasks_per_child,
        )
        blueprint = Blueprint(common, host.context, host.workers, host.prefetch)
        return ProcessSpawner(blueprint, greedy=greedy, limits=limits, lifecycle=self.lifecycle)

    def task_timeout(self, context: str) -> float | None:
        """How long a call may run in a context."""
        own = self.contexts.get(context, ContextSettings()).task_timeout
        return self.settings.task_timeout if own is None else own

    def runs(self, placement: Placement, spawner: Spawner, target: Target, callback: Plan | None) -> Runs | None:
        """What runs a route's calls, None for its worker class in the calling thread."""
        pool = self.process_pools.get(self.context_name(placement))
        if pool is not None:
            return self.runs_in(pool, placement, target, callback)
        if isinstance(spawner, ThreadSpawner) and spawner.overtime is not None:
            return TimedRuns(RunsHere(placement.route.worker_class), spawner.overtime)
        return None

    def runs_in(
        self, pool: "ProcessSpawner", placement: Placement, target: Target, callback: Plan | None
    ) -> "RemoteRoute":
        """What runs a route's calls in worker processes."""
        from micro_framework.spawners.blueprint import RoutePlan
        from micro_framework.spawners.process import RemoteRoute

        route, entrypoint = placement.route, placement.route.entrypoint
        told = RoutePlan(
            placement.where,
            placement.service or "",
            target.name,
            wanted_targets(route),
            route.translators,
            route.worker_class,
            entrypoint.called_from_outside,
        )
        return RemoteRoute(
            pool,
            pool.add(told),
            callback=callback,
            result_wanted=lambda: entrypoint.result_needed or bool(self.observers),
            result_needed=entrypoint.result_needed,
        )

    def plan(self, host: Host, target: Target, route: Route | None) -> Plan:
        """The plan of a target; callbacks have no translators of their own, they get what the target got."""
        bound = target.bound(lambda dependency: self.bound(dependency, host))
        if route is None:
            return Plan.of(host, bound)
        return Plan.of(host, bound, route.translators, called_from_outside=route.entrypoint.called_from_outside)

    def bound(self, dependency: Dependency[object], host: Host) -> Dependency[object]:
        """The one bound copy of a dependency in its service."""
        return self.assembly.shared.get(dependency, host)

    def host(self, placement: Placement) -> Host:
        """Where the route's extensions are bound."""
        name = self.context_name(placement)
        context = self.contexts.get(name, ContextSettings())
        workers = context.max_workers or self.settings.max_workers
        prefetch = context.prefetch_count or self.settings.prefetch_count or workers
        service = placement.service or ""
        return Host(
            self.settings,
            service,
            name,
            workers,
            prefetch,
            self.clock,
            self.lifecycle,
            self.assembly.shared,
            tallies=self.tallies,
        )

    def context_name(self, placement: Placement) -> str:
        """The context a route runs in: what it names itself, else the one that holds it."""
        return placement.route.context or placement.context or DEFAULT_CONTEXT

    def has_processes(self, context: str) -> bool:
        """Whether the workers of a context are processes."""
        return uses_processes(self.worker_mode(context))

    def worker_mode(self, context: str) -> str:
        """The worker mode of a context."""
        settings = self.contexts.get(context)
        return (settings.worker_mode if settings else None) or self.settings.worker_mode


def name_of(service: type | Route | RunnerContext) -> str:
    """What a service given alone is called in a message."""
    return service.__name__ if isinstance(service, type) else type(service).__name__ + "(...)"


def filled_up(own: ContextSettings, configured: ContextSettings) -> ContextSettings:
    """A context's own settings, and those of its ``CONTEXTS`` entry where it sets none."""
    return ContextSettings(
        own.max_workers or configured.max_workers,
        own.worker_mode or configured.worker_mode,
        own.prefetch_count or configured.prefetch_count,
        own.max_tasks_per_child or configured.max_tasks_per_child,
        own.task_timeout or configured.task_timeout,
    )


def context_problems(settings: ContextSettings) -> Iterator[str]:
    """What is wrong with a context's settings."""
    workers, mode = settings.max_workers, settings.worker_mode
    if workers is not None and not (is_a(workers, int) and not is_a(workers, bool) and workers > 0):
        yield f"max_workers must be a whole number of at least 1, not {workers!r}"
    if mode is not None and mode not in WORKER_MODES:
        yield f"worker_mode must be one of {', '.join(WORKER_MODES)}, not {mode!r}"


def misplaced_in(route: Route) -> Iterator[str]:
    """What is given in a place that wants something else, such as a class where an instance is wanted."""
    if not is_a(route.entrypoint, Entrypoint):
        yield f"its entrypoint must be an instance such as EventListener(...), not {route.entrypoint!r}"
    if not is_a(route.dead_letter, bool | None):
        yield f"dead_letter must be True, False or None, not {route.dead_letter!r}"
    if route.backoff is not None and not is_a(route.backoff, AsyncBackOff):
        yield f"backoff must be an AsyncBackOff(...), not {route.backoff!r}"
    for name, dependency in route.dependencies.items():
        if not is_a(dependency, Dependency):
            yield f"dependency {name!r} must be an instance such as Producer(), not {dependency!r}"


def wanted_targets(route: Route) -> WantedTargets:
    """What a route says of its targets."""
    # A worker class may change what is given, so there is nothing to check then.
    arguments = route.entrypoint.arguments if route.worker_class is Worker else None
    return WantedTargets(
        route.target, route.method_name, route.dependencies, route.callback, route.callback_method, arguments
    )


def declared_at(dependency: Extension, where: str, target: Target) -> str:
    """The attribute a dependency is declared as, or else the route that declares it."""
    name = getattr(dependency, "name", None)
    return f"{target.owner.__qualname__}.{name}" if target.owner and name else where


def is_a(value: object, expected: type | UnionType) -> bool:
    """``isinstance`` for values whose type is only declared, by code that nobody may have type checked."""
    return isinstance(value, expected)


def is_worker_class(value: object) -> bool:
    """Whether a value is a class of workers."""
    return isinstance(value, type) and issubclass(value, Worker)


def warn_of_unused(found: FoundTargets, wanted: WantedTargets) -> None:
    """One warning for each dependency that neither the target nor the callback names."""
    for name in found.unused(wanted):
        description = found.target.description if found.target else ""
        logger.warning("%s: its signature does not name the dependency %r, so it is not passed", description, name)


def assemble(
    services: Iterable[Declared],
    settings: Settings,
    clock: Clock,
    lifecycle: Lifecycle,
    observers: Sequence[Observer],
    tallies: "Tallies | None" = None,
) -> Assembly:
    """Bind everything that services declare.

    Args:
        services: Classes, routes and contexts, mixed at will.
        settings: The configuration.
        clock: The runner's clock.
        lifecycle: Where extensions report.
        observers: Told of every finished attempt.
        tallies: Where things are counted, None for nowhere.

    Raises:
        DeclarationError: Lists every problem, each with class, method and fix.
    """
    return Assembler(settings, clock, lifecycle, observers, tallies).assemble(services)
