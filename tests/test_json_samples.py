"""The JSON that pages show beside their code is what that code really gives."""

import io
import json
import logging
import re
from typing import Any

import pytest

from micro_framework.logs import JSONFormatter
from micro_framework.observe.health import Health
from micro_framework.testing import running
from tests.outside import Outside, memory_uri
from tests.pages import ROOT, blocks_of
from tests.scraping import eventually
from tests.websocket.people import LOCAL, client

EACH_TIME_ANOTHER = {"time": r"[\d-]+T[\d:.]+\+00:00", "call_id": r"orders\.refund\.[\w-]+"}


def code_and_samples(page: str, module: str) -> tuple[dict[str, Any], list[Any]]:
    """What a page's first Python block defines, and the page's JSON."""
    blocks = blocks_of(ROOT / "docs" / page)
    defined: dict[str, Any] = {"__name__": module}
    exec(next(block.code for block in blocks if block.language == "python"), defined)  # noqa: S102 - our own page
    return defined, [json.loads(block.code) for block in blocks if block.language == "json"]


def test_requests_and_replies_of_websocket() -> None:
    defined, (request, reply, error) = code_and_samples("websocket.md", "prices")
    with running(defined["Prices"], config=LOCAL) as runner, client(runner) as prices:
        assert prices.ask(**request) == reply
        assert prices.ask(request["command"], "plum", id=request["id"]) == error


def test_a_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    defined, (sample,) = code_and_samples("logging.md", "orders")
    written, uri = io.StringIO(), memory_uri()
    handler = logging.StreamHandler(written)
    handler.setFormatter(JSONFormatter())
    outside = Outside(uri)
    logging.getLogger("orders").addHandler(handler)
    try:
        with caplog.at_level(logging.INFO, "orders"), running(defined["Orders"], config={"AMQP_URI": uri}):
            headers = {"nameko.call_id_stack": [sample["origin_call_id"]]}
            outside.event("payments", "refunded", {"id": 7}, headers)
            eventually(written.getvalue)  # stopped first, it would leave the event in its queue
    finally:
        logging.getLogger("orders").removeHandler(handler)
        outside.close()
    (line,) = [json.loads(line) for line in written.getvalue().splitlines()]
    assert list(line) == list(sample)
    for key, pattern in EACH_TIME_ANOTHER.items():
        assert re.fullmatch(pattern, line.pop(key))
        assert re.fullmatch(pattern, sample.pop(key))
    assert line == sample


def test_the_answer_to_a_probe() -> None:
    (sample,) = [
        json.loads(block.code) for block in blocks_of(ROOT / "docs" / "metrics.md") if block.language == "json"
    ]
    health = Health(sample["stage"], missing=sample["reasons"])
    assert json.loads(health.line(good=False)) == sample
