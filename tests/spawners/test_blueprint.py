"""What can be told to a worker process, and what is refused with the way out."""

import pickle
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from micro_framework.amqp.dependencies import Producer
from micro_framework.config import Settings
from micro_framework.dependencies import Dependency
from micro_framework.exceptions import DeclarationError
from micro_framework.routes import CallbackRoute, Route, route
from micro_framework.runner import Runner
from micro_framework.spawners.blueprint import Blueprint, RoutePlan
from micro_framework.targets import WantedTargets
from micro_framework.translators import JSONTranslator, MessageTranslator
from micro_framework.workers import Worker
from tests.spawners.laboratory import Desk, Laboratory, desk, open_laboratory

URI = "amqp://localhost"


def target(payload: Any) -> None: ...


def takes_dispatch(payload: Any, dispatch: Any) -> None: ...


def renamed(payload: Any) -> None: ...


original, renamed.__qualname__ = renamed, "target"


class Locked(Dependency[int]):
    def __init__(self) -> None:
        self.lock = threading.Lock()


class Orders:
    name = "orders"

    @Desk()
    def create(self, payload: Any) -> None: ...


def problems_of(*services: Any, **config: Any) -> list[str]:
    given = {"AMQP_URI": URI, "SERVICE_NAME": "shop", "WORKER_MODE": "process", **config}
    with pytest.raises(DeclarationError) as caught:
        Runner(services, given)
    return list(caught.value.problems)


def local_class() -> type:
    class Local:
        name = "local"

        @Desk()
        def create(self, payload: Any) -> None: ...

    return Local


def local_function() -> Any:
    def handle(payload: Any) -> None: ...

    return handle


def local_translator() -> MessageTranslator:
    class Local(JSONTranslator):
        pass

    return Local()


def local_worker() -> type[Worker]:
    class Local(Worker):
        pass

    return Local


HERE = __name__
INSIDE = "is defined inside a function and cannot be imported; define it in a module, or use WORKER_MODE thread"


@pytest.mark.parametrize(
    ("service", "problem"),
    [
        (
            local_class(),
            f"Local.create: its target cannot be sent to a worker process: {HERE}.local_class.<locals>.Local {INSIDE}",
        ),
        (
            Route(local_function(), Desk()),
            f"its target cannot be sent to a worker process: {__name__}.local_function.<locals>.handle {INSIDE}",
        ),
        (
            Route(lambda payload: None, Desk()),
            "<lambda> is a lambda, which cannot be imported; define a function in a module, or use WORKER_MODE thread",
        ),
        (Route(original, Desk()), "it's not the same object as"),
        (
            CallbackRoute(target, Desk(), callback_target=local_function()),
            "its callback cannot be sent to a worker process:",
        ),
        (
            Route(target, Desk(), translators=[local_translator()]),
            "its translator local_translator.<locals>.Local cannot be sent to a worker process:",
        ),
        (Route(target, Desk(), worker_class=local_worker()), "its worker_class cannot be sent to a worker process:"),
        (
            Route(takes_dispatch, Desk(), {"dispatch": Locked()}),
            f"its dependency 'dispatch' cannot be sent to a worker process: {HERE}.Locked: TypeError: cannot pickle",
        ),
    ],
)
def test_what_cannot_be_sent_is_refused_by_name_when_the_runner_is_built(service: Any, problem: str) -> None:
    (found,) = problems_of(service)
    assert problem in found


def test_what_only_a_thread_uses_may_be_anything() -> None:
    @route(Desk(), context="threads")
    def handle(self: object, payload: Any) -> None: ...

    local = type("Local", (), {"name": "local", "handle": handle})
    config = {"WORKER_MODE": "process", "CONTEXTS": {"threads": {"WORKER_MODE": "thread"}}, "LOCK": threading.Lock()}
    with Runner([local], config) as runner:
        assert desk(runner, "Local.handle").call().error is None


def test_a_value_of_the_configuration_that_cannot_be_sent_is_named() -> None:
    (problem,) = problems_of(Orders, MINE={"lock": threading.Lock()})
    assert problem.startswith("the configuration's 'MINE' cannot be sent to a worker process: builtins.dict: TypeError")


def test_the_embedded_broker_is_refused_by_name() -> None:
    for mode in ("process", "greedy_process"):
        (problem,) = problems_of(Orders, AMQP_URI="memory://", WORKER_MODE=mode)
        assert problem.startswith("WORKER_MODE process does not go with AMQP_URI memory://")
    Runner([Orders], {"AMQP_URI": "memory://", "CONTEXTS": {"unused": {"WORKER_MODE": "process"}}})


def test_every_problem_is_told_at_once() -> None:
    found = problems_of(
        local_class(), Route(target, Desk(), {"dispatch": Producer(service_name=5)}), LOCK=threading.Lock()
    )  # type: ignore[arg-type]
    assert len(found) >= 2


def blueprint(target: object = target, **config: Any) -> Blueprint:
    wanted = WantedTargets(target, None, {}, None, None, ("payload",))
    route_plan = RoutePlan("here", "shop", "target", wanted, (), Worker)
    return Blueprint(Settings.from_mapping(config), "default", 1, 1, [route_plan])


def test_what_is_packed_is_unpacked() -> None:
    given = blueprint(MINE=[1, {"a": 2}])
    packed, main, problems = given.pack()
    assert (main, problems) == (None, [])
    assert Blueprint.unpack(packed) == given


def test_one_dependency_of_two_routes_stays_one() -> None:
    shared = Producer()
    given = blueprint()
    wanted = WantedTargets(target, None, {"a": shared, "b": shared}, None, None, None)
    given.routes.append(RoutePlan("here", "shop", "target", wanted, (), Worker))
    first, second = Blueprint.unpack(given.pack()[0]).routes[1].wanted.dependencies.values()
    assert first is second


class InMain:
    pass


@pytest.fixture
def in_main(monkeypatch: pytest.MonkeyPatch) -> type:
    """A class that is part of the main module."""
    monkeypatch.setattr(InMain, "__module__", "__main__")
    monkeypatch.setattr(sys.modules["__main__"], "InMain", InMain, raising=False)
    return InMain


def test_the_main_module_is_told_if_it_is_needed(
    in_main: type, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script = tmp_path / "service.py"
    script.write_text("")
    monkeypatch.setattr(sys.modules["__main__"], "__file__", str(script), raising=False)
    _, main, problems = blueprint(MINE=in_main).pack()
    assert problems == []
    assert main is not None
    assert main.path == str(script)


def test_a_main_module_that_is_no_file_is_refused(in_main: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    _, _, (problem,) = blueprint(MINE=in_main).pack()
    assert problem.startswith("part of the service is defined in __main__, and that is no file")


def test_a_target_that_is_only_named_is_not_imported_to_be_packed() -> None:
    packed, _, problems = blueprint("nowhere.at.all").pack()
    assert problems == []
    assert b"nowhere.at.all" in packed


def test_a_service_of_a_module_arrives() -> None:
    with open_laboratory(Orders) as runner:
        assert desk(runner, "Orders.create").call().error is None
    assert pickle.loads(pickle.dumps(Laboratory)) is Laboratory
