"""Fixtures of the tests of pools."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.spawners.laboratory import Telephone


@pytest.fixture
def telephone(tmp_path: Path) -> Iterator[Telephone]:
    """A line on which targets in other processes can be waited for."""
    telephone = Telephone(tmp_path)
    yield telephone
    telephone.close()
