"""The processes of a soak: the service, what publishes its events, and what calls it.

Each is started with one argument, the order as JSON, and ends with the pipe at its standard input: whatever becomes of
the judge, nothing is left behind. Whatever goes wrong ends the process with exit code 1.
"""

import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from benchmarks.soak.board import CALLING, MANY, PUBLISHING, Board, Phase, Seen
from micro_framework.amqp.entrypoints import EventListener, RPCListener
from micro_framework.runner import Runner
from micro_framework.standalone import EventProducer, RPCClient

__all__ = ["BATCH", "MOST_WAITING", "PARTIES", "WORKERS", "main"]

PARTIES = ("service", "publisher", "caller")
WORKERS = 10
BATCH = 1000
MOST_WAITING = 10_000
"""Publishers hold back beyond so many events that are not handled: neither the broker nor its disk fills up."""
LOOK_EVERY = 50
"""Events that a thread publishes one at a time between two looks at how many wait."""
PAUSE_SECONDS = 0.005
CALL_SECONDS = 60.0


def main() -> None:
    """Do what the order says."""
    order = json.loads(sys.argv[1])
    threading.Thread(target=end_with_parent, name="soak-parent", daemon=True).start()
    {"service": serve, "publisher": publish, "caller": call}[order["party"]](order, Board(order["board"]))


def end_with_parent() -> None:
    os.read(sys.stdin.fileno(), 1)  # not sys.stdin.read, whose lock the interpreter wants at its end
    os._exit(0)


def serve(order: dict[str, Any], board: Board) -> None:
    seen = Seen(board)

    class Soaked:
        name = "soaked"

        @EventListener("source", "tick")
        def handle(self, payload: dict[str, Any]) -> None:
            seen.note(payload["source"], payload["number"])

        @RPCListener()
        def echo(self, payload: dict[str, Any]) -> dict[str, Any]:
            seen.note(payload["source"], payload["number"])
            return payload

    config = {
        "AMQP_URI": order["uri"],
        "MAX_WORKERS": WORKERS,
        "WORKER_MODE": "thread",
        "ENABLE_METRICS": True,
        "METRICS": {"HOST": "127.0.0.1", "PORT": order["port"]},
    }
    Runner([Soaked], config).start()


def publish(order: dict[str, Any], board: Board) -> None:
    with EventProducer("source", order["uri"]) as dispatch:

        def singly(source: int, number: int) -> int:
            if number % LOOK_EVERY == 0:
                hold_back(board)
            dispatch("tick", payload_of(source, number))
            return 1

        def thousand(source: int, number: int) -> int:
            hold_back(board)
            dispatch.many(("tick", payload_of(source, each)) for each in range(number, number + BATCH))
            return BATCH

        together(
            [
                partial(send, board, MANY, (Phase.CONSUME, Phase.TOGETHER), thousand),
                *(partial(send, board, source, (Phase.PUBLISH, Phase.TOGETHER), singly) for source in PUBLISHING),
            ]
        )


def call(order: dict[str, Any], board: Board) -> None:
    with RPCClient(order["uri"], timeout=CALL_SECONDS) as rpc:
        echo = rpc.soaked.echo

        def one(source: int, number: int) -> int:
            payload = payload_of(source, number)
            if (answer := echo(payload)) != payload:
                raise ValueError(f"the answer to {payload} was {answer}")
            return 1

        together([partial(send, board, source, (Phase.CALL, Phase.TOGETHER), one) for source in CALLING])


def send(board: Board, source: int, phases: Sequence[int], perform: Callable[[int, int], int]) -> None:
    """Send messages during some phases, until all is over.

    Args:
        board: Says which phase it is.
        source: Who sends.
        phases: When.
        perform: Gets the source and the number of its next message; sends, and returns how many have been confirmed, or
            answered.
    """
    number = 0
    while True:
        turn, phase = board.turn
        if phase in phases:
            number += perform(source, number)
            board.sent[source] = number
        elif phase == Phase.OVER:
            return
        else:
            board.paused[source] = turn
            time.sleep(PAUSE_SECONDS)


def hold_back(board: Board) -> None:
    """Wait while too many wait. A pause ends nothing here: the service goes on with what it has."""
    while board.waiting() > MOST_WAITING:
        time.sleep(PAUSE_SECONDS)


def payload_of(source: int, number: int) -> dict[str, Any]:
    """About 200 bytes of JSON."""
    return {
        "source": source,
        "number": number,
        "customer": {"id": 4711, "name": "Ada Lovelace", "city": "London"},
        "items": [{"sku": "A-1", "n": 1}, {"sku": "B-2", "n": 20}],
        "note": "as ordered, to be delivered before noon",
    }


def together(loops: Sequence[Callable[[], None]]) -> None:
    """Run each in a thread of its own; the process ends if any fails."""
    threads = [threading.Thread(target=or_end, args=(loop,), name=f"soak-{n}") for n, loop in enumerate(loops)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def or_end(loop: Callable[[], None]) -> None:
    try:
        loop()
    except BaseException:
        traceback.print_exc()
        os._exit(1)


if __name__ == "__main__":
    main()
