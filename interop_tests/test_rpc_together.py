"""Several services at once: replicas that share the load, ours and Nameko's calling each other, a stop under load."""

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from interop_tests.nameko_process import Nameko
from interop_tests.own_process import OwnService, Runs
from micro_framework.standalone import RPCClient
from micro_framework.testing.broker_state import VHost

CALLERS = 10
SECONDS = 60.0
CALLS, MOST = 600, 6_000

pytestmark = [pytest.mark.fault, pytest.mark.timeout(300)]


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


@pytest.fixture
def calls(soak_size: Callable[[int], int]) -> int:
    return min(MOST, soak_size(CALLS))


def test_two_replicas_share_the_load(rabbit: VHost, runs: Runs, calls: int) -> None:
    with (
        OwnService(rabbit, "Working") as one,
        OwnService(rabbit, "Working") as two,
        RPCClient(rabbit.uri, timeout=SECONDS) as client,
        ThreadPoolExecutor(CALLERS) as pool,
    ):
        results = list(pool.map(lambda number: client.working.work(number, str(runs.folder)), range(calls)))
        assert results == list(range(calls))
        shares = Counter(pid for _, pid in runs.all())
        assert set(shares) == {one.pid, two.pid}
        assert min(shares.values()) >= calls // 4, shares


def test_nameko_and_we_call_each_other_under_load(nameko: Nameko, calls: int) -> None:
    """Each call of one is served with calls of the other, which call back, while others do the same the other way."""
    vhost = nameko.vhost
    nameko.run("rpc_peers:Busy", config={"max_workers": 50, "PREFETCH_COUNT": 50})
    sixths = calls // 60

    def ask(service: str, batch: int) -> tuple[list[Any], list[int]]:
        numbers = list(range(batch, batch + 10))
        return client[service].ask_many(numbers), [n**4 for n in numbers]

    with (
        OwnService(vhost, "Busy", MAX_WORKERS=50, PREFETCH_COUNT=50) as ours,
        RPCClient(vhost.uri, timeout=120) as client,
        ThreadPoolExecutor(4) as pool,
    ):
        batches = [pool.submit(ask, service, batch) for batch in range(sixths) for service in ("ours", "theirs")]
        for batch in batches:
            got, expected = batch.result(SECONDS)
            assert got == expected
        vhost.wait_until_drained("rpc-ours", "rpc-theirs")
        assert ours.is_running()


def test_replicas_are_replaced_one_by_one_and_every_call_runs_once(rabbit: VHost, runs: Runs, calls: int) -> None:
    """SIGTERM while calls run and others wait: each is answered once, by whoever it is, and none runs twice."""
    replacements = 4
    started = threading.Semaphore(0)

    def call(number: int) -> Any:
        started.release()
        return client.working.work(number, str(runs.folder))

    with (
        OwnService(rabbit, "Working") as one,
        OwnService(rabbit, "Working") as two,
        RPCClient(rabbit.uri, timeout=SECONDS) as client,
        ThreadPoolExecutor(CALLERS) as pool,
    ):
        results = [pool.submit(call, number) for number in range(calls)]
        words: dict[int, str] = {}  # what each process said
        for number in range(replacements):
            for _ in range(calls // (replacements + 1)):
                assert started.acquire(timeout=SECONDS)
            leaving = (one, two)[number % 2]
            leaving.terminate()
            assert leaving.wait() == 0, leaving.output()
            words[leaving.pid] = leaving.output()
            leaving.start()
        assert [result.result(SECONDS) for result in results] == list(range(calls))
        rabbit.wait_until_drained("rpc-working")
        words |= {one.pid: one.output(), two.pid: two.output()}
    ran = Counter(number for number, _ in runs.all())
    oddly = [(number, pid) for number, pid in runs.all() if ran[number] != 1]
    assert not oddly, f"(call, process) of what ran more than once: {oddly}\n{words}"
    assert set(ran) == set(range(calls))
    assert {pid for _, pid in runs.all()} <= set(words)


def test_running_calls_are_answered_at_the_stop_and_waiting_ones_by_the_other(rabbit: VHost, runs: Runs) -> None:
    with (
        OwnService(rabbit, "Working", MAX_WORKERS=2, PREFETCH_COUNT=10) as leaving,
        RPCClient(rabbit.uri, timeout=SECONDS) as client,
    ):
        pending = [client.working.hold.call_async(number, str(runs.folder)) for number in range(10)]
        runs.wait_for(2)
        with OwnService(rabbit, "Working", MAX_WORKERS=10) as staying:
            leaving.terminate()
            runs.wait_for(10)
            runs.let_go()
            assert [call.result() for call in pending] == list(range(10))
            assert leaving.wait() == 0
            assert len(runs.of_process(leaving.pid)) == 2
            assert len(runs.of_process(staying.pid)) == 8
