"""What a browser makes of it: the status page of a running demo, and a target that a page calls over WebSocket."""

import json
import os
import runpy
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from micro_framework.entrypoints import TimeEntrypoint
from micro_framework.observe.server import ObserveServer
from micro_framework.testing import producer_for, running
from tests.chromium import Chromium
from tests.observed_shop import Payments, Shop
from tests.websocket.people import LOCAL, server_of

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
METRICS = {"ENABLE_METRICS": True, "METRICS": {"HOST": "127.0.0.1", "PORT": 0}}


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    browser = Chromium()
    yield browser
    browser.close()


def rows_of(chromium, table):
    """The cells of a table of the page, row by row."""
    rows = f"[...document.querySelectorAll('#{table} tbody tr')]"
    return chromium.run(f"{rows}.map((row) => [...row.cells].map((cell) => cell.innerText.trim()))")


def test_the_status_page_shows_a_running_demo_live(chromium):
    waiting, gate = threading.Event(), threading.Event()

    class Desk:
        name = "desk"

        @TimeEntrypoint(interval=3600, eager=True)
        def wait(self):
            waiting.set()
            gate.wait(120)

    try:
        with running(Shop, Payments, Desk, config=METRICS) as runner:
            assert isinstance(runner.observing, ObserveServer)
            assert waiting.wait(30)
            producer = producer_for(runner, "web")
            for number in range(10):
                producer("sold", number)
            chromium.open(f"http://127.0.0.1:{runner.observing.port}/")
            chromium.wait_until("document.getElementById('state').innerText === 'ready'")
            sold = "[...document.querySelectorAll('#routes tr')].find((row) => row.innerText.startsWith('sold'))"
            chromium.wait_until(f"[...{sold}.cells].slice(-4).map((cell) => cell.innerText).join() === '9,3,2,1'")
            # It is live: what comes now is shown without anybody's doing anything.
            for number in range(10):
                producer("sold", number)
            chromium.wait_until(f"[...{sold}.cells].slice(-4).map((cell) => cell.innerText).join() === '18,6,4,2'")
            chromium.wait_until("document.querySelector('#routes svg polyline') !== null")
            assert chromium.run("document.getElementById('title').innerText") == "desk, payments, shop"
            assert rows_of(chromium, "contexts") == [["default", "", "1", "10", "0"]]
            assert {row[1] for row in rows_of(chromium, "connections")} == {"connected"}
            assert ["payments.charge", "18", "2", "0", "0"] in rows_of(chromium, "rpc")
            errors = rows_of(chromium, "errors")
            assert any(cells[3].startswith("shop.sold.") for cells in errors)
            assert any("Declined: <script>document.title = 'owned'</script> password=********" in c[2] for c in errors)
            assert "owned" not in chromium.run("document.title")
            assert chromium.run("document.querySelectorAll('script').length") == 1
            assert "hunter2" not in chromium.text()
            if folder := os.environ.get("MF_PICTURES"):  # for people who want to look
                chromium.picture(Path(folder) / "status-light.png")
                chromium.picture(Path(folder) / "status-dark.png", dark=True)
            gate.set()
        chromium.wait_until("document.getElementById('state').innerText === 'no answer'")
    finally:
        gate.set()


def test_a_page_calls_a_target_over_websocket(chromium, tmp_path):
    """The page of examples/websocket, opened from a file."""
    prices = runpy.run_path(str(EXAMPLES / "websocket" / "prices.py"))["Prices"]
    with running(prices, config={**LOCAL, "WEBSOCKET": {"ORIGINS": ["null"]}}) as runner:
        page = (EXAMPLES / "websocket" / "prices.html").read_text()
        (tmp_path / "prices.html").write_text(page.replace(":8765/", f":{server_of(runner).port}/"))
        chromium.open((tmp_path / "prices.html").as_uri())
        chromium.wait_until("socket.readyState === WebSocket.OPEN")
        chromium.run("document.getElementById('ask').click()")
        answer = chromium.wait_until("document.getElementById('answer').textContent")
        assert json.loads(answer)["data"] == {"fruit": "apple", "total": 6}


def test_a_page_of_another_site_cannot_call_it(chromium, tmp_path):
    prices = runpy.run_path(str(EXAMPLES / "websocket" / "prices.py"))["Prices"]
    with running(prices, config={**LOCAL, "WEBSOCKET": {"ORIGINS": ["https://shop.example"]}}) as runner:
        page = (EXAMPLES / "websocket" / "prices.html").read_text()
        (tmp_path / "prices.html").write_text(page.replace(":8765/", f":{server_of(runner).port}/"))
        chromium.open((tmp_path / "prices.html").as_uri())
        chromium.wait_until("document.getElementById('answer').textContent === 'not connected'")
