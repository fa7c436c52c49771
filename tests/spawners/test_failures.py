"""Exceptions that come from another process: themselves where that is safe, else by the same name."""

import pickle
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

from micro_framework.backoff import matches
from micro_framework.exceptions import PublishTimeout, WorkerDied
from micro_framework.spawners.failures import Failure, StandIn, failure_of, load_known, pickled_or_none, rebuilt
from micro_framework.workers import DependencyFailure

WHERE = "worker process mf-process-default-0 (pid 1)"


class Plain(ValueError):
    pass


class WithCode(Exception):
    """Does not unpickle: its ``__init__`` takes other arguments than it hands on."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


class Formats(Exception):
    """Unpickles, as something else: its ``__init__`` would format its message twice."""

    def __init__(self, order: str) -> None:
        super().__init__(f"order {order} is unknown")


class Holds(Exception):
    """Cannot be pickled: an argument, and an attribute."""

    def __init__(self) -> None:
        super().__init__("holds", threading.Lock())
        self.lock = threading.Lock()
        self.number = 5


class Reduces(Exception):
    def __reduce__(self) -> Any:
        raise RuntimeError("not me")


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Slotted(Exception):
    __slots__ = ("code",)


def over(error: BaseException) -> BaseException:
    """As the service gets an error; what is sent is plain data."""
    failure = Failure(*pickle.loads(pickle.dumps(tuple(failure_of(error)))))
    return rebuilt(failure, where=WHERE)


@pytest.mark.parametrize(
    "error",
    [
        Plain("no", 5),
        KeyError("a"),
        FileNotFoundError(2, "no such file", "orders.csv"),
        SystemExit(3),
        KeyboardInterrupt(),
        WithCode("text", 7),
        Formats("7"),
        Slotted("x"),
        WorkerDied("orders.create.1", -9),
        PublishTimeout("late"),
        DependencyFailure("database: OSError"),
        ExceptionGroup("several", [ValueError("a"), Plain("b")]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_whose_class_is_known_arrives_as_itself(error: BaseException) -> None:
    arrived = over(error)
    assert (type(arrived), str(arrived)) == (type(error), str(error))
    assert len(arrived.args) == len(error.args)


def test_attributes_arrive() -> None:
    assert over(WithCode("text", 7)).code == 7  # type: ignore[attr-defined]


@pytest.mark.parametrize("error", [Holds(), Reduces("r"), Mute("m")], ids=lambda error: type(error).__name__)
def test_one_that_cannot_be_sent_is_stood_in_for_by_its_name_and_class(error: BaseException) -> None:
    arrived = over(error)
    assert isinstance(arrived, type(error)), "an except clause for it still holds"
    assert (type(arrived).__name__, type(arrived).__module__) == (type(error).__name__, __name__)
    assert str(arrived) == ("<its text cannot be had>" if isinstance(error, Mute) else str(error))


def test_what_can_be_sent_of_it_is() -> None:
    arrived = over(Holds())
    assert arrived.number == 5  # type: ignore[attr-defined]
    assert not hasattr(arrived, "lock")


def raised() -> BaseException:
    try:
        try:
            raise KeyError("inner")
        except KeyError as inner:
            raise Plain("outer") from inner
    except Plain as error:
        error.add_note("look at the order")
        return error


def test_where_it_was_raised_is_noted() -> None:
    arrived = over(raised())
    own, trace = arrived.__notes__
    assert own == "look at the order"
    assert trace.startswith(f"in {WHERE}:\nTraceback (most recent call last):")
    assert f'File "{__file__}"' in trace
    assert "KeyError: 'inner'" in trace, "what caused it is told"
    assert trace.count("look at the order") == 0, "its notes are told once"


def test_a_long_traceback_is_cut_in_the_middle() -> None:
    (trace,) = over(Plain("x" * 100_000)).__notes__
    assert len(trace) < 31_000
    assert "[...]" in trace


# -- classes that only the other process knows


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    (tmp_path / "foreign_errors.py").write_text(
        textwrap.dedent("""
            import threading

            class Mixin:
                pass

            class ShopError(Exception):
                pass

            class Refused(ShopError, Mixin, ConnectionError, ValueError):
                class Inner(Exception):
                    pass

            class Unloadable(Exception):
                def __init__(self, a, b):
                    super().__init__(a)
                    self.order = Order()

            class Order:
                pass
        """)
    )
    return tmp_path


def sent(folder: Path, expression: str) -> Failure:
    """What another process sends for an error of a module that this one has not imported."""
    program = (
        f"import sys, pickle; sys.path.insert(0, {str(folder)!r}); import foreign_errors; "
        "from micro_framework.spawners.failures import failure_of; "
        f"sys.stdout.buffer.write(pickle.dumps(tuple(failure_of({expression}))))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=100, check=True)
    return Failure(*pickle.loads(done.stdout))


def test_a_class_that_is_not_imported_here_is_stood_in_for_and_stays_not_imported(foreign: Path) -> None:
    failure = sent(foreign, "foreign_errors.Refused('no', 5)")
    error = rebuilt(failure, where=WHERE)
    assert "foreign_errors" not in sys.modules
    assert (type(error).__module__, type(error).__qualname__, str(error)) == (
        "foreign_errors",
        "Refused",
        "[Errno no] 5",
    )
    assert error.args == ("no", 5)
    assert isinstance(error, StandIn)
    assert isinstance(error, ConnectionError), "of the bases, those that are known are kept"
    assert isinstance(error, ValueError)
    assert type(rebuilt(failure, where=WHERE)) is type(error)


@pytest.mark.parametrize(
    ("name", "matched"),
    [("foreign_errors.Refused", True), ("foreign_errors.ShopError", True), ("foreign_errors.Other", False)],
)
def test_a_retry_can_name_a_class_that_is_not_imported_here(foreign: Path, name: str, matched: bool) -> None:
    assert matches(rebuilt(sent(foreign, "foreign_errors.Refused()"), where=WHERE), [name]) is matched


def test_nested_classes_go_by_their_last_name(foreign: Path) -> None:
    error = rebuilt(sent(foreign, "foreign_errors.Refused.Inner('x')"), where=WHERE)
    assert (type(error).__name__, type(error).__qualname__) == ("Inner", "Refused.Inner")


def test_in_a_worker_process_the_real_class_comes_back(foreign: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error goes from a worker process to the service and on to the one that runs the callback."""
    in_the_service = rebuilt(sent(foreign, "foreign_errors.Unloadable('a', 'b')"), where=WHERE)
    monkeypatch.syspath_prepend(foreign)
    error = rebuilt(failure_of(in_the_service), where=None)
    try:
        import foreign_errors  # type: ignore[import-not-found]

        assert type(error) is foreign_errors.Unloadable
        assert isinstance(error.order, foreign_errors.Order)
        assert (error.args, str(error)) == (("a",), "a")
    finally:
        sys.modules.pop("foreign_errors", None)


def test_where_it_was_raised_is_noted_once_on_all_its_ways() -> None:
    again = rebuilt(failure_of(over(raised())), where=None)
    assert len(again.__notes__) == 2


# -- loading without importing


def test_pythons_own_modules_may_be_imported() -> None:
    sys.modules.pop("fractions", None)
    assert str(load_known(b"cfractions\nFraction\n(I1\nI2\ntR.")) == "1/2"


def test_nothing_else_is_imported() -> None:
    with pytest.raises(pickle.UnpicklingError, match=r"never_imported\.Thing is not imported in this process"):
        load_known(b"cnever_imported\nThing\n(tR.")


def test_the_main_module_of_worker_processes_is_that_of_the_service() -> None:
    main: Any = sys.modules["__main__"]
    main.Marked = Plain
    try:
        assert load_known(b"c__mp_main__\nMarked\n.") is Plain
    finally:
        del main.Marked


def test_what_cannot_be_pickled_is_none() -> None:
    assert pickled_or_none(threading.Lock()) is None
    assert pickle.loads(pickled_or_none([1]) or b"") == [1]
