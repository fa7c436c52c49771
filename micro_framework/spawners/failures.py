"""Exceptions on their way from one process to another.

An exception travels as a `Failure`: plain data, so that reading one never imports or runs anything. On the other side
it becomes, whichever works first,

1. a copy, if it pickles and its copy says the same (an ``__init__`` that formats its message would do so twice);
2. its class with its arguments and attributes, without running ``__init__``;
3. a `StandIn`: a class made on the spot, by the same name and with the same bases as far as they are known here.

A service knows only the classes of modules that it has imported itself: what only worker processes import, ``django``
for one, is not imported because somebody raised something.
"""

import contextlib
import functools
import importlib
import io
import pickle
import sys
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = ["Failure", "StandIn", "failure_of", "load_known", "pickled_or_none", "rebuilt"]

LONGEST_TRACE = 30_000
"""Characters of a traceback; what exceeds them is cut out of its middle."""

KNOWN_STANDINS = 256

ClassName = tuple[str, str]
"""The module and the qualified name of a class."""


class Failure(NamedTuple):
    """An exception as plain data.

    Args:
        classes: Its class and that one's bases, nearest first.
        text: Its ``str``.
        args: Its arguments, pickled; None where that fails.
        state: Its attributes, pickled; those that can be.
        copy: The whole of it, pickled; None where its copy would be another one.
        trace: Where it was raised, as text.
    """

    classes: tuple[ClassName, ...]
    text: str
    args: bytes | None
    state: bytes
    copy: bytes | None
    trace: str


class StandIn:
    """What the class of an exception becomes where that class is not known; mixed into classes made on the spot."""

    failure: Failure

    def __str__(self) -> str:
        return self.failure.text


def failure_of(error: BaseException) -> Failure:
    """What to send for an exception. Never raises."""
    if isinstance(error, StandIn):
        return error.failure
    text = text_of(error)
    return Failure(
        tuple(name_of(cls) for cls in type(error).__mro__ if cls is not object),
        text,
        pickled_or_none(error.args),
        pickle.dumps({name: value for name, value in vars(error).items() if pickled_or_none(value) is not None}),
        faithful_copy(error, text),
        trace_of(error),
    )


def name_of(cls: type) -> ClassName:
    """A class's name; the main module goes by one name in all processes."""
    return (MAIN.get(cls.__module__, cls.__module__), cls.__qualname__)


MAIN = {"__mp_main__": "__main__"}


def text_of(error: BaseException) -> str:
    """An exception's text; one that cannot be had is said to be so."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - whatever the __str__ of a user's exception raises
        return "<its text cannot be had>"


def pickled_or_none(value: object) -> bytes | None:
    """A value pickled, None where it cannot be."""
    try:
        return pickle.dumps(value)
    except Exception:  # noqa: BLE001 - whatever a user's __reduce__ raises
        return None


def faithful_copy(error: BaseException, text: str) -> bytes | None:
    """An exception pickled, None unless what comes out again is the same."""
    try:
        packed = pickle.dumps(error)
        copy = pickle.loads(packed)  # noqa: S301 - made in the line above
        same = type(copy) is type(error) and str(copy) == text and len(copy.args) == len(error.args)
    except Exception:  # noqa: BLE001 - whatever a user's __reduce__ or __init__ raises
        return None
    return packed if same else None


def trace_of(error: BaseException) -> str:
    """The traceback as text, with what caused it; without its notes, which travel with its attributes."""
    try:
        described = traceback.TracebackException.from_exception(error, compact=True)
        described.__notes__ = None
        text = "".join(described.format()).rstrip()
    except Exception:  # noqa: BLE001 - a user's __str__ or __repr__ may raise
        text = "<its traceback cannot be had>"
    half = LONGEST_TRACE // 2
    return text if len(text) <= LONGEST_TRACE else f"{text[:half]}\n[...]\n{text[-half:]}"


# -- on the other side

Find = Callable[[str, str], object]
"""Finds what a module has under a qualified name; raises where there is nothing, or it must not be imported."""


class KnownUnpickler(pickle.Unpickler):
    """Unpickles without importing modules, apart from Python's own."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        """As the base, unless it would import something."""
        return find_known(module_name, global_name)


def load_known(packed: bytes) -> Any:
    """Unpickle what another process of this service sent, without importing anything new but Python's own modules.

    Raises:
        pickle.UnpicklingError: It needs a class of a module that is not imported here.
        Exception: Whatever else keeps it from being built.
    """
    return KnownUnpickler(io.BytesIO(packed)).load()


def find_known(module: str, name: str) -> object:
    """What a module has under a qualified name, if the module is imported already or is Python's own."""
    module = MAIN.get(module, module)
    if module not in sys.modules and module.partition(".")[0] not in sys.stdlib_module_names:
        raise pickle.UnpicklingError(f"{module}.{name} is not imported in this process")
    return find_anywhere(module, name)


def find_anywhere(module: str, name: str) -> object:
    """What a module has under a qualified name; imports the module."""
    found = sys.modules.get(module) or importlib.import_module(module)
    return functools.reduce(getattr, name.split("."), found)


def rebuilt(failure: Failure, *, where: str | None) -> BaseException:
    """An exception of another process. Never raises.

    Args:
        failure: The exception as it was sent.
        where: The process it was raised in, noted on it together with its traceback; None in a worker process, which
            may import its class, and where it is not noted once more.
    """
    load, find = (pickle.loads, find_anywhere) if where is None else (load_known, find_known)
    builders = (copied, bare, in_its_stead)
    error = next(error for build in builders if (error := attempted(build, failure, load, find)) is not None)
    if where is not None:
        with contextlib.suppress(TypeError):  # its notes may be the user's own, and no list
            error.add_note(f"in {where}:\n{failure.trace}")
    return error


Load = Callable[[bytes], Any]


def attempted(build: Callable[..., Any], failure: Failure, load: Load, find: Find) -> BaseException | None:
    """What a builder makes, None if it raises or makes something else."""
    try:
        error = build(failure, load, find)
        return error if isinstance(error, BaseException) and str(error) == failure.text else None
    except Exception:  # noqa: BLE001 - the user's classes may raise anything; the last builder has none of them
        return None


def copied(failure: Failure, load: Load, find: Find) -> object:
    """The copy."""
    return None if failure.copy is None else load(failure.copy)


def bare(failure: Failure, load: Load, find: Find) -> object:
    """An instance of the class itself, its ``__init__`` not run; only if nothing of it is missing."""
    if failure.args is None:
        return None
    return made(class_named(failure.classes[0], find), load(failure.args), load(failure.state))


def in_its_stead(failure: Failure, load: Load, find: Find) -> object:
    """An instance of a class that stands in for its class; an exception with nothing but a text if all else fails."""
    args = loaded_or(failure.args, (failure.text,), load)
    state = loaded_or(failure.state, {}, load)
    try:
        error = made(stand_in_class(failure.classes, find), args, state)
    except Exception:  # noqa: BLE001 - a base class that is known here may refuse what it is given
        error = made(named(failure.classes[0], (StandIn, Exception)), args, {})
    error.failure = failure  # type: ignore[attr-defined]
    return error


def made(cls: type[BaseException], args: tuple[Any, ...], state: dict[str, Any]) -> BaseException:
    """An exception with these arguments and attributes; no ``__init__`` runs."""
    try:
        error = cls.__new__(cls, *args)
    except TypeError:
        error = cls.__new__(cls)
    error.args = args
    vars(error).update(state)
    return error


def loaded_or(packed: bytes | None, default: Any, load: Load) -> Any:
    """What was packed, the default where it cannot be loaded."""
    try:
        return default if packed is None else load(packed)
    except Exception:  # noqa: BLE001 - the user's classes may raise anything
        return default


def class_named(name: ClassName, find: Find) -> type[BaseException]:
    """The exception class of a name.

    Raises:
        LookupError: There is none of that name here.
    """
    try:
        found = find(*name)
    except Exception as error:
        raise LookupError(".".join(name)) from error
    if not isinstance(found, type) or not issubclass(found, BaseException):
        raise LookupError(".".join(name))
    return found


def stand_in_class(classes: tuple[ClassName, ...], find: Find) -> type[BaseException]:
    """A class by the first of these names, that is of every exception class among them that is known here.

    Those that are not known are there by name, for ``exception_list=["module.Name"]``.
    """
    missing, bases = [classes[0]], list[type[BaseException]]()
    for name in classes:
        try:
            found = class_named(name, find)
        except LookupError:
            missing += [name] if name != classes[0] else []
            continue
        if not any(issubclass(base, found) for base in bases):
            bases.append(found)
    return chain(tuple(missing), tuple(bases))


@functools.lru_cache(KNOWN_STANDINS)
def chain(names: tuple[ClassName, ...], bases: tuple[type[BaseException], ...]) -> type[BaseException]:
    """Classes of these names, each the base of the one before, the last with these bases."""
    made_last: tuple[type, ...] = (StandIn, *bases)
    for name in reversed(names):
        made_last = (named(name, made_last),)
    (first,) = made_last
    return first


def named(name: ClassName, bases: tuple[type, ...]) -> Any:
    """A new class of a name."""
    module, qualified = name
    return type(qualified.rpartition(".")[2], bases, {"__module__": module, "__qualname__": qualified})
