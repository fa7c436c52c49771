"""Reading the config file."""

import pytest

from micro_framework.cli.errors import FailedError, WrongUsageError
from micro_framework.cli.files import read_config
from micro_framework.exceptions import ConfigError


def test_no_file_is_an_empty_configuration():
    assert read_config(None, {}) == {}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("c.yaml", b"MAX_WORKERS: ${WORKERS:3}\nname: caf\xc3\xa9\n"),
        ("c.yaml", b"\xef\xbb\xbfMAX_WORKERS: 3\r\nname: caf\xc3\xa9\r\n"),
        ("c.json", b'{"MAX_WORKERS": 3, "name": "caf\\u00e9"}'),
    ],
)
def test_a_file_is_read(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    assert read_config(str(path), {}) == {"MAX_WORKERS": 3, "name": "caf\u00e9"}


def test_the_environment_is_substituted(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("MAX_WORKERS: ${WORKERS:3}")
    assert read_config(str(path), {"WORKERS": "8"}) == {"MAX_WORKERS": 8}


def test_a_missing_file_and_a_directory_are_wrong_usage(tmp_path):
    with pytest.raises(WrongUsageError, match=r"there is no config file .*nope\.yaml"):
        read_config(str(tmp_path / "nope.yaml"), {})
    with pytest.raises(WrongUsageError, match="is a directory"):
        read_config(str(tmp_path), {})


def test_bytes_that_are_no_text_and_text_that_is_no_configuration(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FailedError, match="UTF-8"):
        read_config(str(path), {})
    path.write_text("a: [")
    with pytest.raises(ConfigError, match=r"c\.yaml"):
        read_config(str(path), {})


def test_a_file_that_cannot_be_opened_says_why(tmp_path):
    path = tmp_path / "loop.yaml"
    path.symlink_to(path)
    with pytest.raises(FailedError, match="cannot be read: Too many levels"):
        read_config(str(path), {})
