import codecs

import pytest

from micro_framework.migration.reading import read_module
from micro_framework.migration.source import UnreadableError, encoded, python_files, read_source


@pytest.mark.parametrize(
    "raw",
    [
        b"x = 1\r\ny = 2\r\n",
        codecs.BOM_UTF8 + "x = 'é'\n".encode(),
        "# -*- coding: latin-1 -*-\nx = 'é'\n".encode("latin-1"),
        b"",
    ],
)
def test_a_file_is_the_same_bytes_again(tmp_path, raw):
    file = tmp_path / "a.py"
    file.write_bytes(raw)
    source = read_source(file)
    assert encoded(source, source.text) == raw


@pytest.mark.parametrize("raw", [b"# coding: nonsense\n", b"x = '\xff'\n"])
def test_a_file_that_is_not_in_its_encoding_is_told(tmp_path, raw):
    (tmp_path / "a.py").write_bytes(raw)
    with pytest.raises(UnreadableError, match="encoding"):
        read_source(tmp_path / "a.py")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("print 'x'\n", "line 1: this is Python 2"),
        ("try:\n    pass\nexcept ValueError, e:\n    pass\n", "line 3: this is Python 2"),
        ("def f(:\n", "line 1: does not parse as Python 3"),
    ],
)
def test_what_does_not_parse_is_told_with_its_line(tmp_path, text, said):
    (tmp_path / "a.py").write_text(text)
    with pytest.raises(UnreadableError, match=said):
        read_module("a", read_source(tmp_path / "a.py"))


def test_folders_of_others_are_left_alone(tmp_path):
    for name in ("a.py", ".venv/b.py", "app/c.py", "app/__pycache__/d.py", "x/site-packages/e.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [each.name for each in python_files(tmp_path)] == ["a.py", "c.py"]
