"""The limit of everything that computes: the loop alone, in as many processes as ordered, without any messages."""

import multiprocessing
import time
from pathlib import Path

from tally import pack, read_order
from work import burn

__all__ = ["main"]


def rate(turns: int, seconds: float) -> float:
    """How often the loop runs in a second."""
    count, begin = 0, time.perf_counter()
    while (spent := time.perf_counter() - begin) < seconds:
        burn(turns)
        count += 1
    return count / spent


def main() -> None:
    """Report the rate of all processes together."""
    order = read_order()
    with multiprocessing.Pool(order["copies"]) as pool:
        rates = pool.starmap(rate, [(order["turns"], order["seconds"])] * order["copies"], chunksize=1)
    pack(order["report"], {"rate": sum(rates), "seconds": order["seconds"]})
    Path(order["report"] + ".done").touch()


if __name__ == "__main__":
    main()
