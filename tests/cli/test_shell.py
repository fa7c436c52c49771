"""The shell as its user has it: a process of its own, here without a terminal."""

import subprocess
import sys

from click.testing import CliRunner

from micro_framework.amqp.entrypoints import EventListener, RPCListener
from micro_framework.cli import main
from micro_framework.testing import running, wait_for

SECONDS = 30


def shell(script: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "micro_framework", "shell", *arguments],
        input=script,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


class Payments:
    name = "payments"

    @RPCListener()
    def charge(self, customer: int) -> str:
        return f"charged {customer}"

    @EventListener("shop", "sold")
    def sold(self, payload: object) -> object:
        return payload


def test_n_calls_and_emits(amqp_uri: str) -> None:
    with running(Payments, config={"AMQP_URI": amqp_uri}) as runner, wait_for(runner, "Payments.sold", 20) as waited:
        done = shell(
            'print(n.rpc.payments.charge(7)); n.emit("shop", "sold", 1); print(n.config["MAX_WORKERS"])',
            *["--broker", amqp_uri, "-d", "MAX_WORKERS=3"],
        )
    assert (done.stdout, done.returncode) == ("charged 7\n3\n", 0), done.stderr
    assert waited.result() == 1


def test_the_first_error_ends_a_script() -> None:
    done = shell("raise ValueError('no')\nprint('on')", "--broker", "amqp://127.0.0.1:1")
    assert (done.stdout, done.returncode) == ("", 1)
    assert "ValueError: no" in done.stderr


def test_a_shell_without_a_broker_is_wrong_usage() -> None:
    done = CliRunner().invoke(main, ["shell"])
    assert done.exit_code == 2
    assert "--broker" in done.stderr


def test_an_interface_that_is_not_installed_is_told(monkeypatch) -> None:
    from micro_framework.cli.shell import ipython

    monkeypatch.setitem(sys.modules, "IPython.terminal.embed", None)
    assert ipython(required=False) is None
