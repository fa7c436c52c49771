"""``micro-framework run --nameko``: unmodified service files in processes of their own."""

import signal
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.test_run import Process

SERVICES = """
    import eventlet
    from nameko import config
    from nameko.dependency_providers import Config
    from nameko.rpc import rpc
    from nameko.timer import timer

    WORD = config.get("WORD")

    class Base:
        @timer(interval=3600, eager=True)
        def tick(self):
            eventlet.sleep(0)
            print("ticked", WORD, self.config["WORD"], flush=True)

    class Orders(Base):
        name = "orders"
        config = Config()

    class Nameless:
        @rpc
        def call(self): ...

    class Refused:
        name = "refused"

        @rpc
        def call(self): ...

    class Plain: ...
"""

Start = Callable[..., Process]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start ``run --nameko`` in a directory with `SERVICES`; what still runs at the end is killed."""
    (tmp_path / "shop.py").write_text(textwrap.dedent(SERVICES))
    (tmp_path / "nameko.yaml").write_text("AMQP_URI: memory://\nWORD: hello\n")
    running: list[Process] = []

    def start(*arguments: str) -> Process:
        running.append(Process(tmp_path, "run", "--nameko", *arguments))  # type: ignore[no-untyped-call]
        return running[-1]

    yield start
    for process in running:
        process.close()  # type: ignore[no-untyped-call]


def test_an_unmodified_service_runs_and_stops(start: Start) -> None:
    process = start("shop:Orders", "--config", "nameko.yaml")
    process.expect("ticked hello hello")
    process.send(signal.SIGTERM)
    code, errors = process.end()
    assert code == 0, errors
    assert "ready: orders (1 targets)" in errors


def test_copies_run_an_unmodified_service_too(start: Start) -> None:
    process = start("shop:Orders", "-d", "WORD=twice", "-d", "PROCESSES=2")
    process.expect("ticked twice twice")
    process.send(signal.SIGTERM)
    code, errors = process.end()
    assert code == 0, errors


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("shop:Plain",), 1, "class Plain in 'shop' has no entrypoint"),
        (("shop:Nameless",), 1, "Service class must define a `name` attribute (shop.Nameless)"),
        (("shop:Refused",), 1, "AMQP_URI"),
        (("shop:Refused", "-d", "WORKER_MODE=process"), 1, "set PROCESSES to use several processors"),
        (("shop:Refused", "-d", "SERVICE_CONTAINER_CLS=shop.nothing"), 1, "`shop.nothing` could not be imported"),
        (("shop:Refused", "-d", "NAMEKO_API=5"), 1, "NAMEKO_API is 2"),
    ],
)
def test_what_cannot_run_is_told_without_a_traceback(
    start: Start, arguments: tuple[str, ...], code: int, words: str
) -> None:
    found, errors = start(*arguments).end()
    assert (found, "Traceback" in errors) == (code, False), errors
    assert words in errors


def test_without_the_flag_nameko_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("import nameko.rpc\n")
    process = Process(tmp_path, "run", "shop")  # type: ignore[no-untyped-call]
    try:
        code, errors = process.end()  # type: ignore[no-untyped-call]
    finally:
        process.close()  # type: ignore[no-untyped-call]
    assert code == 1
    assert "No module named 'nameko'" in errors


def test_what_is_missing_is_named_with_its_line(start: Start, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("from nameko.rpc import rpc\n\nfrom eventlet import wsgi\n")
    code, errors = start("shop").end()
    assert code == 1
    assert "eventlet.wsgi is not in nameko_compat" in errors
    assert "line 3" in errors
