"""Every form of target is found, checked and run."""

import asyncio
import functools
import sys
import threading
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from micro_framework.calls import Call, CallIdentity
from micro_framework.dependencies import Dependency, inject
from micro_framework.targets import (
    Target,
    WantedTargets,
    class_dependencies,
    close_event_loop,
    deferred_target,
    find_target,
    find_targets,
    owner_problems,
    resolve,
)

NUMBER: Dependency[int] = Dependency()
OTHER: Dependency[int] = Dependency()


def call(*args: Any, **kwargs: Any) -> Call:
    return Call(CallIdentity("orders", "create", ("orders.create.1",)), args, kwargs)


def run(target: Target, *args: Any, **keywords: Any) -> Any:
    return target.run(call(*args), {}, keywords)


class Orders:
    number = NUMBER

    def create(self, payload: Any, bonus: int = 0) -> Any:
        return payload, self.number, bonus

    async def later(self, payload: Any) -> Any:
        await asyncio.sleep(0)
        return payload

    @staticmethod
    def static(payload: Any) -> None: ...

    @classmethod
    def of_class(cls, payload: Any) -> None: ...


class Charge:
    def __call__(self, payload: Any) -> Any:
        return "charged", payload


class NoCall:
    def method(self) -> None: ...


def double(payload: int) -> int:
    return 2 * payload


async def double_later(payload: int) -> int:
    return 2 * payload


class AsyncCall:
    async def __call__(self, payload: int) -> int:
        return 2 * payload


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    module = types.ModuleType("some_tasks")
    module.double = double  # type: ignore[attr-defined]
    module.Charge = Charge  # type: ignore[attr-defined]
    module.number = 5  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "some_tasks", module)
    yield module
    close_event_loop()


@pytest.mark.parametrize(
    ("target", "result", "name"),
    [
        (double, 10, "double"),
        ("some_tasks.double", 10, "double"),
        ("some_tasks:double", 10, "double"),
        (double_later, 10, "double_later"),
        (Charge, ("charged", 5), "Charge"),
        ("some_tasks.Charge", ("charged", 5), "Charge"),
        (Charge(), ("charged", 5), "Charge"),
        (AsyncCall, 10, "AsyncCall"),
        (AsyncCall(), 10, "AsyncCall"),
        (functools.partial(double), 10, "partial"),
        (lambda payload: payload, 5, "<lambda>"),
    ],
)
def test_every_form_of_target_runs(tasks: types.ModuleType, target: object, result: object, name: str) -> None:
    found = find_target(target)
    assert (run(found, 5), found.name) == (result, name)


def test_methods_run_on_a_fresh_equipped_instance() -> None:
    found = find_target(Orders, "create")
    assert found.attributes == (("number", NUMBER),)
    assert found.run(call("p", bonus=2), {"number": 7}, {}) == ("p", 7, 2)
    assert found.description == "Orders.create"
    assert run(find_target(Orders, "later"), 3) == 3
    close_event_loop()


@pytest.mark.parametrize(
    ("target", "method_name", "problem"),
    [
        ("double", None, "'double' is not a dotted path; write module.function"),
        ("no_such_module.f", None, "'no_such_module.f' cannot be imported: there is no module 'no_such_module'"),
        ("some_tasks.triple", None, "'some_tasks.triple' names nothing: module 'some_tasks' has no attribute 'triple'"),
        ("some_tasks.number", None, "'some_tasks.number' is an int; a target is a function, a class or a dotted path"),
        ("some_tasks.double", "run", "method_name='run' goes with a class, and 'some_tasks.double' is a function"),
        (5, None, "5 is an int"),
        (Orders, "refund", "Orders has no method 'refund'"),
        (Orders, "number", "Orders has no method 'number'"),
        (NoCall, None, "NoCall has no method '__call__'; name a method with method_name="),
        (Orders, "static", "Orders.static is static, and a worker calls it on an instance; let it take self"),
        (Orders, "of_class", "Orders.of_class is static"),
    ],
)
def test_what_is_no_target_is_explained(
    tasks: types.ModuleType, target: object, method_name: str | None, problem: str
) -> None:
    with pytest.raises(ValueError) as caught:
        find_target(target, method_name)
    assert problem in str(caught.value)


def test_a_module_that_needs_a_missing_one_says_which(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    (tmp_path / "needy_tasks.py").write_text("import missing_thing\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match="there is no module 'missing_thing'"):
        resolve("needy_tasks.run")


def takes_number(payload: Any, number: int) -> int:
    return number


def takes_keyword(payload: Any, *, number: int) -> int:
    return number


def takes_all(payload: Any, **dependencies: int) -> dict[str, int]:
    return dependencies


def takes_none(payload: Any) -> None: ...


def takes_positional(payload: Any, number: int, /) -> None: ...


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (takes_number, ["number"]),
        (takes_keyword, ["number"]),
        (takes_all, ["number", "other"]),
        (takes_none, []),
        (takes_positional, []),
    ],
)
def test_injection_follows_the_signature(function: Any, names: list[str]) -> None:
    found = find_target(function, dependencies={"number": NUMBER, "other": OTHER})
    assert [name for name, _ in found.keywords] == names
    assert found.takes("number") is ("number" in names)


@inject(number=NUMBER)
class Decorated:
    @inject(other=OTHER)
    def both(self, payload: Any, number: int, other: int) -> int:
        return number + other

    def one(self, payload: Any, number: int) -> int:
        return number


@pytest.mark.parametrize(("method", "names"), [("both", {"number", "other"}), ("one", {"number"})])
def test_inject_works_on_classes_and_methods(method: str, names: set[str]) -> None:
    found = find_target(Decorated, method)
    assert {name for name, _ in found.keywords} == names
    assert run(found, None, **dict.fromkeys(names, 1)) == len(names)


def test_inject_works_on_functions_and_wins_over_the_routes_dependencies() -> None:
    function = inject(number=OTHER)(lambda payload, number: number)
    assert find_target(function, dependencies={"number": NUMBER}).keywords == (("number", OTHER),)


def test_dependencies_of_bases_and_mixins_count_and_the_nearest_wins() -> None:
    class Mixin:
        number = OTHER
        extra = NUMBER

    class Special(Mixin, Orders):
        pass

    class Without(Special):
        extra = None  # type: ignore[assignment]

    assert dict(class_dependencies(Special)) == {"number": OTHER, "extra": NUMBER}
    assert dict(class_dependencies(Without)) == {"number": OTHER}


class Slotted:
    __slots__ = ()
    number = NUMBER

    def create(self, payload: Any) -> None: ...


class SlottedAlone:
    __slots__ = ()

    def create(self, payload: Any) -> None: ...


class Demanding:
    def __init__(self, dsn: str, retries: int = 3, *, flag: bool) -> None: ...

    def create(self, payload: Any) -> None: ...


@pytest.mark.parametrize(
    ("owner", "problems"),
    [
        (Orders, []),
        (SlottedAlone, []),
        (Slotted, ["Slotted has __slots__ and no __dict__, so nothing can be injected; leave out __slots__"]),
        (Demanding, ["Demanding.__init__ needs dsn, flag; a worker makes instances without arguments"]),
    ],
)
def test_classes_no_worker_could_equip_are_found(owner: type, problems: list[str]) -> None:
    assert list(owner_problems(find_target(owner, "create"))) == problems


def test_each_thread_has_one_event_loop_for_all_its_calls() -> None:
    async def which() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    target, seen = find_target(which), list[asyncio.AbstractEventLoop]()

    def work() -> None:
        seen.extend(target.run(call(), {}, {}) for _ in range(2))
        close_event_loop()

    for _ in range(2):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join(20)
    assert seen[0] is seen[1]
    assert seen[1] is not seen[2]
    assert all(loop.is_closed() for loop in seen)


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
def test_the_loop_goes_on_after_a_coroutine_raised(error: type[BaseException]) -> None:
    async def fail() -> None:
        raise error("no")

    with pytest.raises(error):
        run(find_target(fail))
    assert run(find_target(double_later), 4) == 8
    close_event_loop()


def test_a_module_that_raises_is_told_with_file_and_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "raises_at_import.py").write_text("x = 1\nx / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        ValueError, match=r"cannot be imported: ZeroDivisionError: .* \(at .*raises_at_import.py, line 2\)"
    ):
        resolve("raises_at_import.target")


# -- a route's target and callback together


def wanted(target: object, callback: object | None = None, **options: Any) -> WantedTargets:
    given = {"method_name": None, "dependencies": {}, "callback_method": None, "arguments": ("payload",), **options}
    return WantedTargets(target, callback=callback, **given)


def test_target_and_callback_are_found_together() -> None:
    found = find_targets(wanted(double, Orders, callback_method="create"))
    assert [target and target.description for target in (found.target, found.callback)] == [
        f"{__name__}.double",
        "Orders.create",
    ]
    assert found.problems == []


def test_every_problem_of_target_and_callback_is_told() -> None:
    found = find_targets(wanted(takes_number, "nowhere.f"))
    assert (found.target is not None, found.callback) == (True, None)
    cannot, signature = found.problems
    assert cannot == "its callback: 'nowhere.f' cannot be imported: there is no module 'nowhere'"
    assert "missing a required argument: 'number'" in signature


def test_dependencies_that_neither_takes_are_unused() -> None:
    both = wanted(takes_none, takes_number, dependencies={"number": NUMBER, "other": OTHER})
    assert find_targets(both).unused(both) == ["other"]


def test_what_is_only_named_is_not_imported_where_it_should_not_be() -> None:
    found = find_targets(wanted("nowhere.f", "nowhere.g", dependencies={"number": NUMBER}), import_paths=False)
    assert found.problems == []
    assert found.target is not None
    assert (found.target.name, found.target.description) == ("f", "nowhere.f")
    assert found.target.keywords == (("number", NUMBER),), "so that its declaration can be checked"
    with pytest.raises(RuntimeError, match=r"'nowhere\.f' is imported in worker processes only"):
        run(found.target, 1)


@pytest.mark.parametrize(
    ("path", "method", "name", "description"),
    [("a.b.f", None, "f", "a.b.f"), ("a.b:C", None, "C", "a.b.C"), ("a.b.C", "run", "run", "C.run")],
)
def test_a_stand_in_goes_by_the_name_of_what_it_stands_for(
    path: str, method: str | None, name: str, description: str
) -> None:
    stand_in = deferred_target(path, method)
    assert (stand_in.name, stand_in.description) == (name, description)
    assert stand_in == deferred_target(path, method), "two routes to one target are seen to be that"
    assert stand_in.function is not deferred_target("a.c").function


def test_a_name_without_a_module_is_refused_anywhere() -> None:
    (problem,) = find_targets(wanted("double"), import_paths=False).problems
    assert problem == "'double' is not a dotted path; write module.function"


# -- what a caller may give


class Described:
    number = NUMBER

    @inject(other=OTHER)
    def create(self, customer: Any, items: Any = (), other: Any = None) -> None: ...


def test_the_instance_and_what_is_injected_are_not_the_callers() -> None:
    target = find_target(Described, "create")
    assert [each["name"] for each in target.parameters()] == ["customer", "items"]
    check = target.argument_check()
    assert check.problem((1, 2), {}) is None
    assert check.problem((), {}) == "create() missing 1 required positional argument: 'customer'"
    assert check.problem((1,), {"other": 2}) == "create() got an unexpected keyword argument 'other'"


def test_a_function_has_no_instance() -> None:
    def double(a: Any) -> None: ...

    target = find_target(double)
    assert [each["name"] for each in target.parameters()] == ["a"]
    assert target.argument_check().problem((1, 2), {}) == "double() takes 1 positional argument but 2 were given"
