import click
import pytest
from click.testing import CliRunner

from micro_framework.cli import main
from micro_framework.cli.errors import WrongUsageError
from micro_framework.cli.options import configured, read_json_option, with_broker, with_config
from micro_framework.exceptions import ConfigError


def test_a_command_gets_the_three_options() -> None:
    seen = {}

    @click.command()
    @with_config
    def command(**options: object) -> None:
        seen.update(options)

    arguments = ["-c", "x.yaml", "-d", "A=1", "--define", "B", "--broker", "amqp://h"]
    assert CliRunner().invoke(command, arguments).exit_code == 0
    assert seen == {"config_path": "x.yaml", "defines": ("A=1", "B"), "broker": "amqp://h"}


def test_what_is_defined_wins_over_the_file(tmp_path, monkeypatch) -> None:
    (tmp_path / "c.yaml").write_text("MAX_WORKERS: 5\nSERVICE_NAME: ${NAME:orders}\nAMQP_URI: amqp://file\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NAME", "shop")
    config = configured("c.yaml", ["MAX_WORKERS=7"], "amqp://option")
    assert config == {"MAX_WORKERS": 7, "SERVICE_NAME": "shop", "AMQP_URI": "amqp://option"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("A=1", 1),
        ("A", True),
        ("A=", None),
        ("A=a=b", "a=b"),
        ("A={x: [1, 2]}", {"x": [1, 2]}),
        ("A='1'", "1"),
    ],
)
def test_a_value_is_yaml(text: str, value: object) -> None:
    assert configured(None, [text], None) == {"A": value}


def test_a_file_that_is_no_configuration_is_refused(tmp_path) -> None:
    (tmp_path / "c.yaml").write_text("- 1\n")
    with pytest.raises(ConfigError, match="holds a list"):
        configured(str(tmp_path / "c.yaml"), [], None)


@pytest.mark.parametrize(("text", "why"), [("=1", "no key"), ("A={", "is not YAML")])
def test_a_define_that_cannot_be_read_is_wrong_usage(text: str, why: str) -> None:
    with pytest.raises(WrongUsageError, match=why):
        configured(None, [text], None)


@pytest.mark.parametrize(
    ("config", "why"), [({}, "name one with --broker"), ({"AMQP_URI": "memory://"}, "inside one process")]
)
def test_who_speaks_to_others_needs_a_broker_that_others_reach(config: dict[str, object], why: str) -> None:
    with pytest.raises(WrongUsageError, match=why):
        with_broker(config)


def test_json_is_read_or_wrong_usage() -> None:
    assert read_json_option(None) is None
    assert read_json_option('{"id": 7}') == {"id": 7}
    with pytest.raises(WrongUsageError, match="not JSON"):
        read_json_option("{id: 7}")


@pytest.mark.parametrize(
    "arguments",
    [
        ["show-config"],
        ["show-config", "-d", "MAX_WORKER=3"],
        ["call", "shop", "sell", "--timeout", "0.1"],
        ["emit", "shop", "sold", "-d", "PUBLISH_TIMEOUT=0.1"],
        ["check", "tests.observed_shop", "--broker"],
        ["routes", "tests.observed_shop", "--format", "json"],
        ["check", "tests.observed_shop", "-d", "MAX_WORKERS=many"],
        ["dead-letters", "list", "--queue", "shop"],
    ],
)
@pytest.mark.parametrize("given", ["file", "define"])
def test_no_command_shows_the_brokers_password(tmp_path, monkeypatch, arguments, given):
    uri = "amqp://bob:xyzzyplugh@127.0.0.1:1/shop"
    monkeypatch.setenv("SHOP_BROKER", uri)
    (tmp_path / "config.yaml").write_text("AMQP_URI: ${SHOP_BROKER}\n")
    config = [f"--config={tmp_path}/config.yaml"] if given == "file" else [f"-dAMQP_URI={uri}"]
    result = CliRunner().invoke(main, [arguments[0], *config, *arguments[1:]])
    assert result.output
    assert isinstance(result.exception, SystemExit | None)
    assert "xyzzyplugh" not in result.output
