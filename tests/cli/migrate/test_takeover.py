"""`migrate` from the command line: exit codes, plans, refusals. The work itself: tests/takeover."""

import click
import pytest
from click.testing import CliRunner

from micro_framework.cli import main
from micro_framework.cli.migrate.takeover import back, move
from micro_framework.testing.rabbitmq import free_port


def test_every_command_explains_itself() -> None:
    for command in ("prepare", "move", "back", "rollback", "finish", "status"):
        done = CliRunner().invoke(main, ["migrate", command, "--help"])
        assert done.exit_code == 0
        assert "--plan" in done.output


@pytest.mark.parametrize("arguments", [["move", "orders"], ["prepare"], ["prepare", "orders", "--entry", "other"]])
def test_wrong_usage_is_exit_code_2(arguments: list[str]) -> None:
    assert CliRunner().invoke(main, ["migrate", *arguments]).exit_code == 2


@pytest.mark.parametrize("command", [move, back])
def test_the_service_comes_first_then_its_methods(command: click.Command) -> None:
    given = command.make_context("migrate", ["orders", "create", "cancel"]).params
    assert (given["service"], given["methods"]) == ("orders", ("create", "cancel"))


def test_no_broker_is_wrong_usage() -> None:
    assert CliRunner().invoke(main, ["migrate", "status", "orders"]).exit_code == 2


def test_no_answer_is_one_readable_message_without_the_password() -> None:
    where = f"http://127.0.0.1:{free_port()}"
    options = ["--broker", "amqp://me:secret@127.0.0.1/", "--management", where]
    done = CliRunner().invoke(main, ["migrate", "prepare", "orders", *options])
    assert done.exit_code == 1
    assert "no answer from the broker's management API" in done.output
    assert "secret" not in done.output
