"""Pages that show real Nameko beside this framework, played as `tests/pages.py` tells."""

from pathlib import Path

import pytest

from interop_tests.nameko_process import nameko_python
from tests.pages import PAGES, page_folder, play, runs_nameko, with_its_marks

__all__ = ["page_folder"]  # a fixture

VERSION = "2.14.1"


@pytest.mark.parametrize("page", [with_its_marks(page) for page in PAGES if runs_nameko(page)])
def test_a_page_with_nameko_shows_what_is_printed(
    page: Path, page_folder: Path, request: pytest.FixtureRequest
) -> None:
    play(page, page_folder, lambda: request.getfixturevalue("rabbit").uri, nameko_python(VERSION))
