"""Exit codes of a failed command."""

import click
import pytest

from micro_framework.cli.errors import FailedError, WrongUsageError


@pytest.mark.parametrize(("error", "code"), [(FailedError, 1), (WrongUsageError, 2)])
def test_each_failure_has_its_exit_code_and_one_line(error, code, capsys):
    @click.command()
    def fail():
        raise error("it did not work")

    with pytest.raises(SystemExit) as caught:
        fail.main([])
    assert caught.value.code == code
    assert capsys.readouterr().err == "Error: it did not work\n"
