"""What Nameko does with a call that runs when it is told to stop, as the documentation says of it."""

from pathlib import Path

from interop_tests.nameko_process import Nameko
from micro_framework.standalone import RPCClient
from tests.scraping import eventually

SECONDS = 60.0
ONCE = ["start", "end"]
SERVICE = """
from pathlib import Path

import eventlet
from nameko.rpc import rpc


class Slow:
    name = "slow"

    @rpc
    def work(self):
        for word in ("start", "end"):
            with Path("runs").open("a") as runs:
                print(word, file=runs)
            eventlet.sleep(2)
"""


def test_a_call_that_finishes_at_the_stop_of_nameko_is_run_again(nameko: Nameko, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SERVICE)
    runs = tmp_path / "runs"
    services = nameko.run("slow", folder=tmp_path)
    with RPCClient(nameko.vhost.uri, timeout=SECONDS) as rpc:
        rpc.slow.work.call_async()
        eventually(runs.exists)
        assert services.stop(SECONDS) == 0
        assert runs.read_text().split() == ONCE
        nameko.run("slow", folder=tmp_path)
        nameko.vhost.wait_until_drained("rpc-slow", timeout=SECONDS)
    assert runs.read_text().split() == ONCE * 2
