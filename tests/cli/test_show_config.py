import pytest
import yaml
from click.testing import CliRunner

from micro_framework.cli import main


def test_variables_are_substituted_and_secrets_hidden(tmp_path, monkeypatch) -> None:
    (tmp_path / "c.yaml").write_text("MAX_WORKERS: ${WORKERS:3}\nAMQP_URI: amqp://u:hunter2@h\nmine: {api_token: x}\n")
    monkeypatch.setenv("WORKERS", "7")
    done = CliRunner().invoke(main, ["show-config", "-c", str(tmp_path / "c.yaml"), "-d", "SERVICE_NAME=shop"])
    assert done.exit_code == 0
    shown = yaml.safe_load(done.stdout)
    assert shown == {
        "MAX_WORKERS": 7,
        "AMQP_URI": "amqp://u:***@h",
        "mine": {"api_token": "***"},
        "SERVICE_NAME": "shop",
    }


@pytest.mark.parametrize("define", ["MAX_WORKERS=many", "MAX_WORKRS=3"])
def test_what_cannot_be_used_is_shown_and_fails(define: str) -> None:
    done = CliRunner().invoke(main, ["show-config", "-d", define])
    assert done.exit_code == 1
    assert define.partition("=")[0] in done.stdout
    assert "MAX_WORKERS" in done.stderr


def test_nothing_given_is_an_empty_configuration() -> None:
    done = CliRunner().invoke(main, ["show-config"])
    assert (done.exit_code, done.stdout) == (0, "{}\n")
