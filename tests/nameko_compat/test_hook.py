"""``import nameko`` and ``import eventlet`` under the hook, also beside the real packages."""

import importlib
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import nameko_compat.rpc
from nameko_compat import green
from nameko_compat.hook import install, uninstall


@pytest.fixture
def hooked() -> Iterator[None]:
    install()
    yield
    uninstall()


def imported(code: str, file: str = "service.py") -> dict[str, object]:
    """What a user's module holds that consists of this code."""
    names: dict[str, object] = {}
    exec(compile(code, file, "exec"), names)  # noqa: S102 - imports of names that exist only under the hook
    return names


def test_a_module_has_one_identity(hooked: None) -> None:
    names = imported("import nameko.rpc\nfrom nameko.rpc import rpc\nfrom nameko import config")
    assert names["nameko"] is nameko_compat
    assert names["rpc"] is nameko_compat.rpc.rpc
    assert names["config"] is nameko_compat.config
    assert sys.modules["nameko.rpc"] is nameko_compat.rpc
    assert nameko_compat.rpc.__name__ == "nameko_compat.rpc"
    assert nameko_compat.rpc.__spec__ is not None
    assert nameko_compat.rpc.__spec__.name == "nameko_compat.rpc"


def test_packages_below_are_found_in_any_order(hooked: None) -> None:
    names = imported("from nameko.standalone.rpc import ClusterRpcProxy\nimport nameko.amqp.publish")
    assert names["ClusterRpcProxy"].__module__ == "nameko_compat.standalone.rpc"  # type: ignore[attr-defined]


def test_green_modules_are_those_of_the_standard_library(hooked: None) -> None:
    names = imported("from eventlet.green import socket, subprocess\nfrom eventlet.green.urllib import request")
    assert (names["socket"], names["subprocess"]) == (socket, subprocess)
    assert names["request"] is urllib.request
    assert socket.__spec__.name == "socket"
    assert imported("import eventlet.green.urllib.request as request")["request"] is urllib.request


def test_eventlet_means_threads(hooked: None) -> None:
    names = imported("import eventlet\neventlet.monkey_patch(socket=True)\nfrom eventlet.greenpool import GreenPool")
    assert names["eventlet"] is green
    assert names["GreenPool"] is green.GreenPool


def test_the_real_packages_are_not_touched_although_they_are_first_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hooked: None
) -> None:
    for name in ("nameko", "eventlet"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemError('the real one')")
        (tmp_path / name / "rpc.py").write_text("raise SystemError('the real one')")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert imported("import nameko, nameko.rpc, eventlet")["nameko"] is nameko_compat


def test_without_the_hook_the_real_ones_are_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nameko").mkdir()
    (tmp_path / "nameko" / "__init__.py").write_text("real = True")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    try:
        assert imported("import nameko")["nameko"].real  # type: ignore[attr-defined]
        with pytest.raises(RuntimeError, match=r"nameko has been imported already, from .*nameko/__init__\.py"):
            install()
    finally:
        del sys.modules["nameko"]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("from nameko.rpc import Responder", "nameko.rpc.Responder is not in nameko_compat: a part of Nameko's inside"),
        ("import nameko.cli.main", "nameko.cli.main is not in nameko_compat: a part of Nameko's command line"),
        ("import nameko.nothing", "nameko.nothing is not in nameko_compat: Nameko has no such module either"),
        ("from nameko.rpc import nothing", "cannot import name 'nothing'"),
        ("import eventlet.green.zmq", "eventlet.green.zmq is not in nameko_compat, where eventlet means threads"),
        ("\nfrom eventlet import wsgi", r"eventlet.wsgi is not in nameko_compat.*\(at service.py, line 2\); there is"),
        ("import eventlet\n\neventlet.listen(())", r"eventlet.listen is not .*\(at service.py, line 3\)"),
    ],
)
def test_what_is_not_there_is_refused_by_name(hooked: None, code: str, words: str) -> None:
    with pytest.raises(ImportError, match=words):
        imported(code)


def test_installing_twice_is_installing_once(hooked: None) -> None:
    install()
    assert [type(each).__name__ for each in sys.meta_path].count("AliasFinder") == 1


def test_uninstalling_forgets_what_was_imported() -> None:
    install()
    imported("import nameko.rpc")
    uninstall()
    assert not [name for name in sys.modules if name.partition(".")[0] in ("nameko", "eventlet")]
    assert isinstance(sys.modules["nameko_compat.rpc"], ModuleType)
