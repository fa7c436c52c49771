"""From declarations to bound routes: where everything goes, and every problem in one error."""

import functools
from collections.abc import Callable
from typing import Any

import pytest

from micro_framework.amqp.dependencies import Producer, Publisher
from micro_framework.amqp.entrypoints import EventListener, QueueListener
from micro_framework.assembly import Assembly, RunnerContext, assemble
from micro_framework.config import Settings
from micro_framework.dependencies import CallContext, Dependency, Logger, inject
from micro_framework.entrypoints import Entrypoint, TimeEntrypoint
from micro_framework.exceptions import DeclarationError
from micro_framework.extensions import Lifecycle
from micro_framework.retry import AsyncBackOff
from micro_framework.routes import CallbackRoute, Route, route
from micro_framework.spawners.keeper import Limits
from micro_framework.spawners.process import ProcessSpawner
from micro_framework.spawners.thread import ThreadSpawner
from micro_framework.testing import ManualClock
from micro_framework.translators import JSONTranslator
from micro_framework.workers import Worker


def assembled(*services: Any, **config: Any) -> Assembly:
    settings = Settings.from_mapping({"AMQP_URI": "memory://", **config})
    return assemble(services, settings, ManualClock(), Lifecycle(), [])


def problems_of(*services: Any, **config: Any) -> list[str]:
    with pytest.raises(DeclarationError) as caught:
        assembled(*services, **config)
    assert str(caught.value).startswith("the service cannot run as it is declared:")
    return list(caught.value.problems)


def target(payload: Any) -> None: ...


def tick() -> None: ...


def needs_dispatch(payload: Any, dispatch: Any) -> None: ...


EVENT = EventListener("payments", "refunded")
RABBIT = "amqp://localhost"


def with_session(function: Callable[..., None]) -> Callable[..., None]:
    """A decorator of a user's that gives an argument more."""

    @functools.wraps(function)
    def wrapper(*args: Any) -> None:
        function(*args, session=None)

    return wrapper


class Orders:
    name = "orders"
    dispatch = Producer()

    @EVENT
    def refund(self, payload: Any) -> None: ...

    @route(EventListener("payments", "paid"), context="slow")
    def pay(self, payload: Any) -> None: ...


class Unnamed:
    @EVENT
    def refund(self, payload: Any) -> None: ...


# -- placement


def test_a_context_takes_from_the_configuration_what_it_does_not_set() -> None:
    slow = RunnerContext([Route(target, EVENT)], name="slow", max_workers=2)
    configured = {"slow": {"MAX_WORKERS": 7, "PREFETCH_COUNT": 30, "WORKER_MODE": "greedy_thread"}}
    assembly = assembled(slow, SERVICE_NAME="s", CONTEXTS=configured)
    (bound,) = assembly.routes
    assert (bound.host.workers, bound.host.prefetch) == (2, 30)
    assert assembly.spawners["slow"].greedy  # type: ignore[attr-defined]


def test_a_context_of_processes_has_a_pool_of_them() -> None:
    apart = RunnerContext([Route(target, EVENT)], name="apart", max_workers=2, worker_mode="greedy_process")
    configured = {"apart": {"MAX_TASKS_PER_CHILD": 7, "TASK_TIMEOUT": 3}}
    assembly = assembled(apart, Orders, SERVICE_NAME="s", AMQP_URI=RABBIT, CONTEXTS={**configured, "slow": {}})
    pool = assembly.spawners["apart"]
    assert isinstance(pool, ProcessSpawner)
    assert (pool.greedy, len(pool.threads), pool.limits) == (True, 2, Limits(30, 3, 7))
    assert type(assembly.spawners["default"]) is ThreadSpawner
    assert [dependency.name for dependency in assembly.dependencies()] == ["dispatch"]  # type: ignore[attr-defined]


def test_dependencies_of_processes_are_checked_but_do_not_work_here() -> None:
    route = Route(needs_dispatch, EVENT, {"dispatch": Producer()})
    assert assembled(route, SERVICE_NAME="s", AMQP_URI=RABBIT, WORKER_MODE="process").dependencies() == []
    wrong: Any = Route(needs_dispatch, EVENT, {"dispatch": Producer(mandatory="no")})  # type: ignore[arg-type]
    (problem,) = problems_of(wrong, SERVICE_NAME="s", AMQP_URI=RABBIT, WORKER_MODE="process")
    assert "Producer: mandatory must be True or False, not 'no'" in problem


def test_what_only_processes_import_is_not_imported_here() -> None:
    route = CallbackRoute("nowhere.handle", EVENT, callback_function_path="nowhere.failed")
    assembly = assembled(route, SERVICE_NAME="s", AMQP_URI=RABBIT, WORKER_MODE="process")
    (bound,) = assembly.routes
    assert (bound.label, bound.method) == ("nowhere.handle", "handle")
    assert problems_of(route, SERVICE_NAME="s")[0].endswith("there is no module 'nowhere'")


def test_two_targets_of_one_name_would_share_a_queue_also_if_they_are_only_named() -> None:
    config = {"SERVICE_NAME": "s", "AMQP_URI": RABBIT, "WORKER_MODE": "process"}
    (problem,) = problems_of(Route("one.handle", EVENT), Route("two.handle", EVENT), **config)
    assert problem.startswith("one.handle and two.handle would share the queue 'evt-payments-refunded--s.handle'")
    assembled(Route("one.handle", EVENT), Route("one.handle", EVENT), **config)


def test_a_limit_of_processes_that_does_nothing_is_told(caplog: pytest.LogCaptureFixture) -> None:
    assembled(Orders, CONTEXTS={"slow": {}}, MAX_TASKS_PER_CHILD=5)
    assert "MAX_TASKS_PER_CHILD does nothing: no context has a WORKER_MODE with processes" in caplog.text


def test_a_limit_of_threads_is_watched() -> None:
    assembly = assembled(Orders, CONTEXTS={"slow": {"TASK_TIMEOUT": 5}})
    watched = [spawner.overtime and spawner.overtime.limit for spawner in assembly.spawners.values()]  # type: ignore[attr-defined]
    assert watched == [None, 5]


@pytest.mark.parametrize("alone", [Orders, Route(target, EVENT), RunnerContext([Route(target, EVENT)])])
def test_services_come_in_a_list(alone: Any) -> None:
    settings = Settings.from_mapping({"AMQP_URI": "memory://"})
    with pytest.raises(
        DeclarationError, match=r"a runner takes a list of services: Runner\(\[(Orders|\w+\(\.\.\.\))\]"
    ):
        assemble(alone, settings, ManualClock(), Lifecycle(), [])


def places(assembly: Assembly) -> dict[str, tuple[str, str, int, int]]:
    hosts = {found.label: found.host for found in assembly.routes}
    return {label: (host.service, host.context, host.workers, host.prefetch) for label, host in hosts.items()}


def test_context_names_a_key_of_contexts() -> None:
    found = assembled(Orders, CONTEXTS={"slow": {"MAX_WORKERS": 2}}, MAX_WORKERS=5)
    assert places(found) == {"Orders.refund": ("orders", "default", 5, 5), "Orders.pay": ("orders", "slow", 2, 2)}
    assert set(found.spawners) == {"default", "slow"}


def test_context_names_a_runner_context_wherever_that_stands() -> None:
    slow = RunnerContext([Route(target, EVENT)], name="slow", max_workers=2, worker_mode="greedy_thread")
    found = assembled(Orders, slow, SERVICE_NAME="shop")
    assert places(found) == {
        f"{__name__}.target": ("shop", "slow", 2, 2),
        "Orders.refund": ("orders", "default", 10, 10),
        "Orders.pay": ("orders", "slow", 2, 2),
    }
    assert [found.spawners[name].greedy for name in ("slow", "default")] == [True, False]  # type: ignore[attr-defined]


def test_unnamed_contexts_get_names_of_their_own() -> None:
    contexts = [RunnerContext([Route(target, EVENT)], max_workers=count) for count in (1, 2)]
    found = assembled(*contexts, SERVICE_NAME="shop")
    assert [(item.host.context, item.host.workers) for item in found.routes] == [("default", 1), ("context-1", 2)]


@pytest.mark.parametrize(
    ("config", "prefetch"),
    [
        ({}, 10),
        ({"PREFETCH_COUNT": 3}, 3),
        ({"CONTEXTS": {"slow": {"PREFETCH_COUNT": 4}}}, 4),
        ({"CONTEXTS": {"slow": {"MAX_WORKERS": 6}}}, 6),
        ({"CONTEXTS": {"slow": {"max_workers": 6}}}, 6),
    ],
)
def test_the_prefetch_count_is_the_number_of_workers_unless_given(config: dict[str, Any], prefetch: int) -> None:
    found = assembled(Orders, **{"CONTEXTS": {"slow": {}}, **config})
    assert places(found)["Orders.pay"][3] == prefetch


@pytest.mark.parametrize(
    ("service", "config", "name"),
    [(Orders, {"SERVICE_NAME": "shop"}, "orders"), (Unnamed, {"SERVICE_NAME": "shop"}, "shop")],
)
def test_a_classs_own_name_wins_over_the_configured_one(service: type, config: dict[str, Any], name: str) -> None:
    assert {item.service for item in assembled(service, CONTEXTS={"slow": {}}, **config).routes} == {name}


# -- parking


@pytest.mark.parametrize(
    ("entrypoint", "said", "default", "parks"),
    [
        (EVENT, None, False, False),
        (EVENT, None, True, True),
        (EVENT, True, False, True),
        (EVENT, False, True, False),
        (TimeEntrypoint(1), None, True, False),
        (QueueListener("a", requeue_on_error=True), None, True, False),
    ],
)
def test_the_default_parks_where_a_route_says_nothing_and_it_makes_sense(
    entrypoint: Entrypoint, said: bool | None, default: bool, parks: bool
) -> None:
    (bound,) = assembled(parking(entrypoint, said), SERVICE_NAME="s", DEAD_LETTER=default).routes
    assert bound.dead_letter is parks


# -- sharing


def test_a_dependency_is_bound_once_in_its_service() -> None:
    found = assembled(Orders, CONTEXTS={"slow": {}})
    first, second = (dict(item.plan.target.attributes)["dispatch"] for item in found.routes)
    assert first is second
    assert first is not Orders.__dict__["dispatch"]


def test_a_mixins_dependency_serves_each_service_by_itself() -> None:
    class Mixin:
        dispatch = Producer()

        @EVENT
        def refund(self, payload: Any) -> None: ...

    class First(Mixin):
        name = "first"

    class Second(Mixin):
        name = "second"

    found = assembled(First, Second)
    bound = [dict(item.plan.target.attributes)["dispatch"].host.service for item in found.routes]
    assert bound == ["first", "second"]


def test_there_is_one_consumer_for_a_context_and_one_publisher_for_the_process() -> None:
    shared = assembled(Orders, CONTEXTS={"slow": {}}).shared.bound.values()
    kinds = sorted(type(extension).__name__ for extension in shared)
    assert kinds == ["BrokerSource", "ConsumerDoor", "ConsumerDoor", "Producer", "PublisherDoor"]


# -- problems


class Everything:
    """One of nearly everything that can be wrong."""

    broken = Logger()

    def __init__(self, dsn: str) -> None: ...

    @TimeEntrypoint()
    def no_interval(self) -> None: ...

    @route(Entrypoint(), backoff=AsyncBackOff(3, 1), dead_letter=True)
    def cannot_retry(self) -> None: ...

    @route(EVENT, on_failure="refund_faild", context="slwo")
    def refund(self, payload: Any) -> None: ...

    @EventListener("payments", "paid", "broadcast", reliable_delivery=True)
    def pay(self, payload: Any) -> None: ...


def test_all_problems_come_in_one_error_with_class_and_method() -> None:
    found = problems_of(Everything)
    for expected in (
        'Everything.pay: the service has no name; give the class name = "..." or set SERVICE_NAME in the config',
        "Everything.no_interval: TimeEntrypoint needs interval=, seconds greater than 0, or cron=, and got None",
        "Everything.cannot_retry: Entrypoint cannot retry; leave out backoff=",
        "Everything.refund: context='slwo' names no RunnerContext and no key of CONTEXTS",
        "Everything.cannot_retry: Entrypoint cannot park; leave out dead_letter=",
        f"Everything.refund: its callback: {__name__}.Everything has no method 'refund_faild'",
        "Everything.pay: Everything.__init__ needs dsn; a worker makes instances without arguments",
    ):
        assert expected in found
    (broadcast,) = [problem for problem in found if "broadcast_identifier" in problem]
    assert broadcast.startswith("Everything.pay: EventListener('payments', 'paid'): a reliable broadcast needs")
    assert len(found) == len(set(found))


def test_a_problem_of_a_method_with_two_entrypoints_is_told_once() -> None:
    class Twice:
        @EVENT
        @EventListener("payments", "paid")
        def handle(self, payload: Any) -> None: ...

    assert len(problems_of(Twice)) == 1


class WithCallback:
    name = "x"

    @route(EVENT, on_failure="nowhere.at_all")
    def refund(self, payload: Any) -> None: ...


class Slotted:
    __slots__ = ()
    name = "slotted"
    dispatch = Producer()

    @EVENT
    def refund(self, payload: Any) -> None: ...


class NoEntrypoint:
    name = "none"


class FaultyDependency(Dependency[int]):
    def problems(self) -> list[str]:
        return ["FaultyDependency needs dsn="]


class WithFaultyDependency:
    name = "x"
    database = FaultyDependency()

    @TimeEntrypoint(1)
    def tick(self) -> None: ...


def producing(dependency: Any) -> type:
    attributes = {"name": "producing", "send": dependency, "refund": EVENT(lambda self, payload: None)}
    return type("Producing", (), attributes)


def timer(**options: Any) -> type:
    return type("Timer", (), {"name": "timer", "tick": route(TimeEntrypoint(1), **options)(lambda self: None)})


def parking(entrypoint: Entrypoint, dead_letter: bool | None = True) -> Route:
    declared = Route(target if entrypoint.parkable else tick, entrypoint)
    declared.dead_letter = dead_letter
    return declared


@pytest.mark.parametrize(
    ("service", "problem"),
    [
        (NoEntrypoint, "class NoEntrypoint has no entrypoint; decorate a method with one"),
        (Slotted, "Slotted.refund: Slotted has __slots__ and no __dict__, so nothing can be injected"),
        (WithCallback, "WithCallback.refund: its callback: 'nowhere.at_all' cannot be imported"),
        (WithFaultyDependency, "WithFaultyDependency.database: FaultyDependency needs dsn="),
        (5, "5 is not a service class, a Route or a RunnerContext"),
        ("orders:Orders", "'orders:Orders' is not a service class"),
        (Route("nowhere.at_all", EVENT), "Route('nowhere.at_all'): 'nowhere.at_all' cannot be imported"),
        (Route(Orders, EVENT, method_name="pya"), "has no method 'pya'"),
        (Route(target, EventListener), "its entrypoint must be an instance such as EventListener(...), not <class"),  # type: ignore[arg-type]
        (
            Route(target, EVENT, {"dispatch": Producer}),
            "dependency 'dispatch' must be an instance such as Producer(), not",
        ),  # type: ignore[dict-item]
        (Route(target, EVENT, backoff=3), "backoff must be an AsyncBackOff(...), not 3"),  # type: ignore[arg-type]
        (Route(target, EVENT, backoff=AsyncBackOff(-1, 1)), "AsyncBackOff: max_retries must be 0 or more"),
        (Route(target, EVENT, worker_class=int), "worker_class must be a subclass of Worker, not <class 'int'>"),  # type: ignore[arg-type]
        (
            Route(target, TimeEntrypoint(1), translators=[JSONTranslator()]),
            "TimeEntrypoint has no message to translate",
        ),
        (
            Route(target, TimeEntrypoint(cron="* * * *")),
            "TimeEntrypoint: cron='* * * *' cannot be used: it has 4 fields",
        ),
        (timer(dead_letter=True), "Timer.tick: TimeEntrypoint cannot park; leave out dead_letter="),
        (timer(dead_letter="yes"), "Timer.tick: dead_letter must be True, False or None, not 'yes'"),
        (
            parking(QueueListener("a", requeue_on_error=True)),
            "QueueListener('a'): requeue_on_error=True puts a failed message back for ever; leave out that or dead_let",
        ),
        (CallbackRoute(target, EVENT), "a CallbackRoute needs callback_function_path= or callback_target="),
        (RunnerContext([timer()], worker_mode="process"), "WORKER_MODE process does not go with AMQP_URI memory://"),
        (
            RunnerContext([timer()], worker_mode="threads"),
            "worker_mode must be one of thread, greedy_thread, process, greedy_process, not 'threads'",
        ),
        (RunnerContext([timer()], max_workers=0), "RunnerContext 'default': max_workers must be a whole number of at"),
        (RunnerContext([timer()], name="a", max_workers=-1), "RunnerContext 'a': max_workers must be a whole number"),
        (RunnerContext([5]), "5 is not a service class"),  # type: ignore[list-item]
        (Route(target, EventListener("", "e")), "source_service and event_name must not be empty"),
        (
            Route(target, EventListener("a", "b", "shared")),
            "handler_type must be one of service_pool, singleton, broadcast",
        ),
        (Route(target, QueueListener("")), "QueueListener needs a queue with a name"),
        (Route(target, EventListener(Orders, "e")), "source_service must be a string, not <class"),  # type: ignore[arg-type]
        (Route(target, EventListener("a", 3)), "event_name must be a string, not 3"),  # type: ignore[arg-type]
        (
            Route(target, EventListener("a", "b", reliable_delivery="no")),  # type: ignore[arg-type]
            "reliable_delivery must be True, False or None, not 'no'",
        ),
        (
            Route(target, EventListener("a", "b", payload_filter="x")),  # type: ignore[arg-type]
            "payload_filter must be a function of the payload, not 'x'",
        ),
        (
            Route(target, QueueListener("a", requeue_on_error=1)),  # type: ignore[arg-type]
            "QueueListener('a'): requeue_on_error must be True or False, not 1",
        ),
        (
            Route(target, EventListener("a", "b", translators=[JSONTranslator])),  # type: ignore[list-item]
            "translators must be instances such as JSONTranslator(), not <class",
        ),
        (Route(target, EventListener("a", "b" * 255)), "its queue's name has 274 bytes and AMQP takes 255; shorten"),
        (producing(Producer(3)), "Producing.send: Producer: service_name must be a string or None, not 3"),  # type: ignore[arg-type]
        (producing(Producer(mandatory="no")), "Producer: mandatory must be True or False, not 'no'"),  # type: ignore[arg-type]
        (producing(Publisher(3)), "Publisher: exchange must be kombu's Exchange, a name or None, not 3"),  # type: ignore[arg-type]
        (producing(Publisher("x", 3)), "Publisher: routing_key must be a string, not 3"),  # type: ignore[arg-type]
        (producing(Publisher(declare=["q"])), "declare must be a list of kombu's Exchange and Queue, not 'q'"),  # type: ignore[list-item]
        (producing(Producer), "Producing.send is the class Producer; write send = Producer(...)"),
        (Route(lambda: None, EVENT), "it is called as <lambda>(payload), and its signature () does not take that: too"),
        (Route(needs_dispatch, EVENT), "does not take that: missing a required argument: 'dispatch'"),
        (
            timer(on_failure=lambda payload: None),
            "its callback: it is called as <lambda>(), and its signature (payload)",
        ),
    ],
)
def test_each_problem_says_where_and_what_to_do(service: Any, problem: str) -> None:
    assert any(problem in found for found in problems_of(service, SERVICE_NAME="shop"))


class Wrapped:
    name = "wrapped"

    @EVENT
    @with_session
    def refund(self, payload: Any, session: Any) -> None: ...


class Odd(Worker):
    """Gives its targets what it likes."""


def test_a_signature_that_cannot_be_known_is_not_refused() -> None:
    takes_nothing: Any = lambda: None  # noqa: E731 - as short as it can be
    assembled(Wrapped, Route(takes_nothing, EVENT, worker_class=Odd), SERVICE_NAME="x")


class SameName:
    @EventListener("a", "b")
    def refund(self, payload: Any) -> None: ...


class SameNameAgain:
    @EventListener("a", "b")
    def refund(self, payload: Any) -> None: ...


def test_two_targets_that_would_share_a_queue_are_a_problem() -> None:
    (problem,) = problems_of(SameName, SameNameAgain, SERVICE_NAME="x")
    assert problem.startswith("SameName.refund and SameNameAgain.refund would share the queue 'evt-a-b--x.refund', and")


def test_one_target_in_two_contexts_may_share_its_queue() -> None:
    assembled(RunnerContext([SameName], "a"), RunnerContext([SameName], "b"), SERVICE_NAME="x")


def test_a_class_alone_in_a_context_is_refused() -> None:
    with pytest.raises(TypeError, match=r"RunnerContext\(\[Orders\], \.\.\.\)"):
        RunnerContext(Orders)  # type: ignore[arg-type]


def test_nothing_to_run_is_a_problem() -> None:
    assert problems_of() == ["there is nothing to run: no class has an entrypoint, and no route was given"]


def test_two_contexts_of_one_name_are_a_problem() -> None:
    contexts = [RunnerContext([Route(target, EVENT)], name="slow") for _ in range(2)]
    assert problems_of(*contexts, SERVICE_NAME="shop") == [
        "two contexts are called 'slow'; give each RunnerContext a name of its own"
    ]


def test_a_missing_uri_names_both_ways_out_once() -> None:
    found = problems_of(Orders, AMQP_URI=None, CONTEXTS={"slow": {}})
    assert len(found) == 1
    assert "AMQP_URI is missing" in found[0]
    assert "amqp://guest:guest@localhost:5672" in found[0]
    assert "memory://" in found[0]


def test_without_amqp_extensions_no_uri_is_needed() -> None:
    assert len(assembled(timer(), AMQP_URI=None).routes) == 1


# -- dependencies nobody takes


@pytest.mark.parametrize(
    ("service", "warnings"),
    [
        (Route(needs_dispatch, EVENT, {"dispatch": CallContext()}), 0),
        (Route(target, EVENT, {"dispatch": CallContext()}), 1),
        (CallbackRoute(target, EVENT, {"dispatch": CallContext()}, callback_target=needs_dispatch), 0),
        (Route(inject(dispatch=CallContext())(lambda payload: None), EVENT), 1),
    ],
)
def test_a_dependency_that_nobody_names_is_warned_of_once(
    service: Route, warnings: int, caplog: pytest.LogCaptureFixture
) -> None:
    assembled(service, SERVICE_NAME="shop")
    found = [record.getMessage() for record in caplog.records]
    assert len(found) == warnings
    assert all("its signature does not name the dependency 'dispatch', so it is not passed" in text for text in found)


def test_a_cluster_wide_timer_without_a_broker_is_refused_by_name() -> None:
    settings = Settings.from_mapping({})
    with pytest.raises(DeclarationError) as caught:
        assemble([timer_for_all()], settings, ManualClock(), Lifecycle(), [])
    assert "Timer.tick: TimeEntrypoint(cluster=True) needs AMQP_URI: replicas agree through" in str(caught.value)


def timer_for_all(method: str = "tick") -> type:
    return type("Timer", (), {"name": "timer", method: TimeEntrypoint(1, cluster=True)(lambda self: None)})


def test_the_lock_of_a_cluster_wide_timer_has_a_name_that_fits() -> None:
    (problem,) = problems_of(timer_for_all("t" * 250))
    assert "the name of its lock has 265 bytes and AMQP takes 255; shorten service or method" in problem


def test_two_services_of_one_name_cannot_share_a_lock() -> None:
    (problem,) = problems_of(timer_for_all(), timer_for_all())
    assert "would share the lock 'mf-timer.timer.tick'" in problem
