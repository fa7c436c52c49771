"""Whether a call's arguments fit its target, and how a target's parameters are shown to others.

The words for arguments that do not fit are Python's own, as `inspect.getcallargs` finds them: they travel in
``IncorrectSignature``, and a caller of a Nameko service knows them. Finding them takes several times as long as running
a small target, so whether everything fits is seen first, from the function's code alone.
"""

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from types import CodeType, FunctionType, MethodType
from typing import Any

__all__ = ["ArgumentCheck", "callers_parameters", "described_parameters"]

LONGEST_DEFAULT = 200
"""Characters of a default value's text."""


class ArgumentCheck:
    """Tells whether arguments fit one function. Thread safe.

    Args:
        function: The function.
        is_method: Whether it gets an instance first.
        injected: Keyword arguments that the worker adds; a caller must not give them.

    Source of the words: nameko 2.14.1 and 3.0.0rc11 containers.py, which ask ``inspect.getcallargs``.
    """

    def __init__(
        self, function: Callable[..., Any], *, is_method: bool = False, injected: Collection[str] = ()
    ) -> None:
        self.function = function
        self.instance = (None,) if is_method else ()
        self.injected = frozenset(injected)
        code = function.__code__ if isinstance(function, FunctionType) else None
        self.shape = Shape(function, code) if code is not None and isinstance(function, FunctionType) else None

    def problem(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
        """Why the arguments do not fit, in Python's words; None if they do.

        Args:
            args: Positional arguments, without the instance.
            kwargs: Keyword arguments, without the injected ones.
        """
        if self.shape is not None and self.shape.fits(len(self.instance) + len(args), kwargs, self.injected):
            return None
        for name in self.injected.intersection(kwargs):
            return f"{self.name}() got an unexpected keyword argument {name!r}"
        given = (*self.instance, *args), {**dict.fromkeys(self.injected), **kwargs}
        if isinstance(self.function, FunctionType | MethodType):
            return pythons_words(self.function, *given)
        return self.words_for_an_object(*given)

    def words_for_an_object(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str | None:
        """The same for whatever else can be called, which `inspect.getcallargs` does not know."""
        try:
            signature = inspect.signature(self.function)
        except (TypeError, ValueError):
            return None  # some built-in functions do not tell; the call itself will
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            return f"{self.name}() {error}"
        return None

    @property
    def name(self) -> str:
        """The function's name."""
        return str(getattr(self.function, "__name__", type(self.function).__name__))


def pythons_words(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str | None:
    """Why arguments do not fit a function, None if they do."""
    try:
        inspect.getcallargs(function, *args, **kwargs)
    except TypeError as error:
        return str(error)
    return None


class Shape:
    """What a function's code says of its parameters."""

    def __init__(self, function: FunctionType, code: CodeType) -> None:
        count, only = code.co_argcount, code.co_kwonlyargcount
        self.positional = code.co_varnames[:count]
        self.nameable = {name: at for at, name in enumerate(self.positional) if at >= code.co_posonlyargcount}
        self.keyword_only = frozenset(code.co_varnames[count : count + only])
        self.required_count = count - len(function.__defaults__ or ())
        self.required_keywords = self.keyword_only - (function.__kwdefaults__ or {}).keys()
        self.takes_more = bool(code.co_flags & inspect.CO_VARARGS)
        self.takes_any_keyword = bool(code.co_flags & inspect.CO_VARKEYWORDS)

    def fits(self, given: int, kwargs: Mapping[str, Any], injected: frozenset[str]) -> bool:
        """Whether a call with so many positional arguments and these keywords is a right one for sure."""
        if given > len(self.positional) and not self.takes_more:
            return False
        if injected:
            if not injected.isdisjoint(kwargs):
                return False
            kwargs = {**kwargs, **dict.fromkeys(injected)}
        if not all(self.takes(name, given) for name in kwargs) or not self.required_keywords <= kwargs.keys():
            return False
        wanted = self.positional[given : self.required_count]
        return all(name in kwargs and name in self.nameable for name in wanted)

    def takes(self, name: str, given: int) -> bool:
        """Whether a keyword goes somewhere that no positional argument has taken."""
        at = self.nameable.get(name)
        if at is not None:
            return at >= given
        return name in self.keyword_only or self.takes_any_keyword


def callers_parameters(
    function: Callable[..., Any], *, is_method: bool = False, injected: Collection[str] = ()
) -> list[inspect.Parameter]:
    """The parameters that a caller may give; none where the function does not tell.

    Args:
        function: The function.
        is_method: Whether it gets an instance first, which is left out.
        injected: Keyword arguments that the worker adds, which are left out too.
    """
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return []
    return [each for each in parameters[int(is_method) :] if each.name not in injected]


def described_parameters(
    function: Callable[..., Any], *, is_method: bool = False, injected: Collection[str] = ()
) -> list[dict[str, Any]]:
    """The same as plain data: ``name``, ``kind``, ``required``; ``default`` and ``annotation`` as text."""
    return [described(each) for each in callers_parameters(function, is_method=is_method, injected=injected)]


def described(parameter: inspect.Parameter) -> dict[str, Any]:
    """One parameter as plain data."""
    variadic = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    has_default = parameter.default is not parameter.empty
    found: dict[str, Any] = {
        "name": parameter.name,
        "kind": parameter.kind.name.lower(),
        "required": not has_default and not variadic,
    }
    if has_default:
        found["default"] = shown_default(parameter.default)
    if parameter.annotation is not parameter.empty:
        found["annotation"] = inspect.formatannotation(parameter.annotation)
    return found


def shown_default(value: Any) -> str:
    """A default as text, not too long; a user's class may fail to give one."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - whatever the __repr__ of a user's class raises
        return f"<{type(value).__name__}>"
    return text if len(text) <= LONGEST_DEFAULT else text[: LONGEST_DEFAULT - 1] + "…"
