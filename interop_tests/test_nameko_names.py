"""No public name of either Nameko version is silently missing, and the docs say which are there."""

import pytest

from interop_tests.nameko_names import PAGE, Names, is_there, public_names, reason, table, with_table
from nameko_compat.absent import ABSENT, ABSENT_MODULES


@pytest.fixture(scope="module")
def names() -> Names:
    return public_names()


def test_every_name_is_there_or_refused_with_a_reason(names: Names) -> None:
    unknown = [
        f"nameko.{module}.{name}"
        for module, defined in names.items()
        for name in defined
        if not is_there(module, name) and reason(module, name) is None
    ]
    assert unknown == []
    assert sum(len(defined) for defined in names.values()) > 400  # they have been read


def test_what_is_called_missing_is_namekos_and_is_missing(names: Names) -> None:
    listed = [(module, name) for module, reasons in ABSENT.items() for name in reasons]
    assert [(module, name) for module, name in listed if name not in names[module]] == []
    assert [module for module in ABSENT_MODULES if not any(f"{each}.".startswith(f"{module}.") for each in names)] == []


def test_the_docs_have_the_table(names: Names) -> None:
    page = PAGE.read_text()
    assert with_table(page, table(names)) == page, "run: python -m interop_tests.nameko_names"
