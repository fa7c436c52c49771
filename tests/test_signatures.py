"""Whether arguments fit: the quick look and Python's own words agree, for every kind of parameter."""

import functools
import inspect
import itertools
from typing import Any

import pytest

from micro_framework.signatures import LONGEST_DEFAULT, ArgumentCheck, described_parameters


def plain(a, b=1): ...
def none(): ...
def keyword_only(a, *, b, c=2): ...
def variadic(*args, **kwargs): ...
def rest(a, *others, b=3): ...
def positional_only(a, b=2, /, c=3): ...
def anything(a, **more): ...
async def waiting(a): ...


FUNCTIONS = [plain, none, keyword_only, variadic, rest, positional_only, anything, waiting]
ARGS: list[tuple[Any, ...]] = [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)]
KWARGS = [dict.fromkeys(names, 0) for count in range(3) for names in itertools.combinations("abcz", count)]


def really_fits(function: Any, args: Any, kwargs: Any) -> bool:
    try:
        inspect.signature(function).bind(*args, **kwargs)
    except TypeError:
        return False
    return True


def words_of_getcallargs(function: Any, args: Any, kwargs: Any) -> str | None:
    try:
        inspect.getcallargs(function, *args, **kwargs)
    except TypeError as error:
        return str(error)
    return None


@pytest.mark.parametrize("function", FUNCTIONS)
def test_what_fits_fits_and_what_does_not_is_said_in_the_words_of_getcallargs(function: Any) -> None:
    check = ArgumentCheck(function)
    for args, kwargs in itertools.product(ARGS, KWARGS):
        fits = really_fits(function, args, kwargs)
        expected = None if fits else words_of_getcallargs(function, args, kwargs)
        assert check.problem(args, kwargs) == expected, (args, kwargs)
        # Of positional-only parameters getcallargs knows nothing; the call itself complains.
        assert fits or expected is not None or function is positional_only


class Service:
    def create(self, customer, items=()): ...


@pytest.mark.parametrize(
    ("args", "kwargs", "words"),
    [
        ((1, 2), {}, None),
        ((), {"customer": 1}, None),
        ((), {}, "create() missing 1 required positional argument: 'customer'"),
        ((1, 2, 3), {}, "create() takes from 2 to 3 positional arguments but 4 were given"),
        ((1,), {"zz": 1}, "create() got an unexpected keyword argument 'zz'"),
        ((1,), {"customer": 1}, "create() got multiple values for argument 'customer'"),
        ((1,), {"self": 1}, "create() got multiple values for argument 'self'"),
    ],
)
def test_a_method_gets_its_instance_first(args: Any, kwargs: Any, words: str | None) -> None:
    assert ArgumentCheck(Service.create, is_method=True).problem(args, kwargs) == words


@pytest.mark.parametrize(
    ("args", "kwargs", "words"),
    [
        ((1,), {}, None),
        ((), {"b": 1}, "plain() missing 1 required positional argument: 'a'"),
        ((1,), {"b": 1}, "plain() got an unexpected keyword argument 'b'"),
        ((1, 2), {}, "plain() got multiple values for argument 'b'"),
    ],
)
def test_what_is_injected_is_not_the_callers_to_give(args: Any, kwargs: Any, words: str | None) -> None:
    found = ArgumentCheck(plain, injected=["b"]).problem(args, kwargs)
    assert found == (words if "b" not in kwargs else "plain() got an unexpected keyword argument 'b'")


def test_a_parameter_of_an_injected_name_may_be_keyword_only() -> None:
    check = ArgumentCheck(keyword_only, injected=["b"])
    assert check.problem((1,), {}) is None
    assert check.problem((), {}) == "keyword_only() missing 1 required positional argument: 'a'"


class Callable:
    def __call__(self, a): ...


OBJECTS = [Callable(), functools.partial(plain, b=1), Service().create, functools.partial(waiting)]


@pytest.mark.parametrize("target", OBJECTS, ids=lambda target: type(target).__name__)
def test_any_object_that_can_be_called_is_checked(target: Any) -> None:
    check = ArgumentCheck(target)
    assert check.problem((1,), {}) is None
    words = check.problem((), {"zz": 1})
    assert words is not None
    assert words.startswith(f"{check.name}() ")
    assert check.problem((1, 2, 3), {}) is not None


def test_a_built_in_that_does_not_tell_is_left_to_the_call() -> None:
    with pytest.raises(ValueError, match="no signature found"):
        inspect.signature(max)
    assert ArgumentCheck(max).problem((), {"zz": 1}) is None
    assert ArgumentCheck(abs).problem((), {}) == "abs() missing a required argument: 'x'"


def test_a_decorator_is_taken_for_what_it_takes_itself() -> None:
    """As in Nameko: what it wraps complains when it is called."""

    @functools.wraps(plain)
    def wrapper(*args, **kwargs): ...

    assert ArgumentCheck(wrapper).problem((1, 2, 3), {"zz": 1}) is None


def test_keywords_that_are_no_text_do_not_fit() -> None:
    """A serializer other than JSON may bring them."""
    assert ArgumentCheck(plain).problem((1,), {5: 1}) is not None  # type: ignore[dict-item]


# -- described


def test_parameters_are_described_as_plain_data() -> None:
    def create(self, customer: int, /, items: list[str] = [], *more, when=None, **rest): ...  # noqa: B006

    assert described_parameters(create, is_method=True) == [
        {"name": "customer", "kind": "positional_only", "required": True, "annotation": "int"},
        {
            "name": "items",
            "kind": "positional_or_keyword",
            "required": False,
            "default": "[]",
            "annotation": "list[str]",
        },
        {"name": "more", "kind": "var_positional", "required": False},
        {"name": "when", "kind": "keyword_only", "required": False, "default": "None"},
        {"name": "rest", "kind": "var_keyword", "required": False},
    ]


def test_what_is_injected_is_not_described() -> None:
    assert [each["name"] for each in described_parameters(plain, injected=["b"])] == ["a"]


def test_a_built_in_has_nothing_to_describe() -> None:
    assert described_parameters(max) == []


def test_defaults_are_shown_however_odd_they_are() -> None:
    class Odd:
        def __repr__(self) -> str:
            raise ValueError("no text")

    def odd(a=Odd(), b="x" * 1000): ...  # noqa: B008

    first, second = described_parameters(odd)
    assert first["default"] == "<Odd>"
    assert len(second["default"]) == LONGEST_DEFAULT
