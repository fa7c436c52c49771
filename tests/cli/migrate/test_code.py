import json
import os
import sys

import pytest
from click.testing import CliRunner

from micro_framework.cli import main

SERVICE = "from nameko.rpc import rpc\n\n\nclass A:\n    name = 'a'\n\n    @rpc\n    def f(self): pass\n"


@pytest.fixture
def cli():
    return lambda *arguments: CliRunner().invoke(main, ["migrate", *map(str, arguments)])


@pytest.fixture
def file(tmp_path):
    made = tmp_path / "app.py"
    made.write_text(SERVICE)
    return made


def test_check_ends_with_0_when_nothing_needs_a_hand(cli, file):
    result = cli("check", file)
    assert result.exit_code == 0
    assert "rpc -> RPCListener; queue rpc-a bound to nameko-rpc/a.f" in result.output


@pytest.mark.parametrize("text", ["print 'x'\n", "import eventlet\n"])
def test_check_ends_with_1_when_something_does(cli, file, text):
    file.write_text(text)
    result = cli("check", file, "--format", "json")
    assert result.exit_code == 1
    assert json.loads(result.output)["needs_a_hand"]


def test_a_path_that_is_not_there_is_wrong_usage(cli, tmp_path):
    assert cli("check", tmp_path / "nothing").exit_code == 2
    assert cli("rewrite", tmp_path / "nothing").exit_code == 2


def test_a_folder_without_python_is_told(cli, tmp_path):
    result = cli("check", tmp_path)
    assert result.exit_code == 1
    assert "no Python file" in result.output


def test_rewrite_shows_and_writes_only_when_told(cli, file):
    file.chmod(0o640)
    result = cli("rewrite", file, "--to", "native")
    assert result.exit_code == 0
    assert "+    @RPCListener()" in result.output
    assert file.read_text() == SERVICE
    assert cli("rewrite", file, "--to", "native", "--write").exit_code == 0
    assert "@RPCListener()" in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o640
    assert os.listdir(file.parent) == ["app.py"]
    assert "0 of 1 files changed" in cli("rewrite", file, "--to", "native", "--write").output


def test_a_file_that_does_not_parse_is_left_and_told(cli, file):
    (file.parent / "old.py").write_text("print 'x'\n")
    result = cli("rewrite", file.parent, "--write")
    assert result.exit_code == 1
    assert "this is Python 2" in result.output
    assert "nameko_compat" in file.read_text()


def test_without_libcst_the_error_says_what_to_install(cli, file, monkeypatch):
    monkeypatch.setitem(sys.modules, "libcst", None)
    monkeypatch.delitem(sys.modules, "micro_framework.migration.rewriting", raising=False)
    result = cli("rewrite", file)
    assert result.exit_code == 1
    assert "pip install 'micro-framework[migrate]'" in result.output
    assert cli("check", file).exit_code == 0
