from collections.abc import Iterator

import pytest

from tests.rpc.keepers import Table, a_table


@pytest.fixture
def table() -> Iterator[Table]:
    """A table of calls whose threads end with the test."""
    with a_table() as table:
        yield table
