"""What counts as alive, and as ready."""

import json

import pytest

from micro_framework.observe.health import Health


@pytest.mark.parametrize(
    ("health", "alive", "ready"),
    [
        (Health("starting"), True, False),
        (Health("running"), True, True),
        (Health("running", missing=["not ready: publishing connection"]), True, False),
        (Health("running", dead=["the clock"]), False, False),
        (Health("stopping"), True, False),
    ],
)
def test_alive_and_ready(health, alive, ready):
    assert (health.alive, health.ready) == (alive, ready)


def test_the_answer_is_one_line_with_the_reasons():
    line = Health("running", missing=["a\nb"]).line(False)
    assert line.count(b"\n") == 1
    assert json.loads(line) == {
        "status": "unavailable",
        "stage": "running",
        "alive": True,
        "ready": False,
        "reasons": ["a\nb"],
    }
