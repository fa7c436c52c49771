"""``python -m benchmarks.soak [--seconds N] [--into FOLDER]``: runs a soak, prints its tables, writes ``results/``.

Without ``--seconds`` the environment variable `MF_SOAK_SECONDS` counts, and without that it is an hour.
"""

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence
from math import inf
from pathlib import Path

from benchmarks.report import RESULTS, environment, tell, write
from benchmarks.soak.judge import Judge, Plan, SoakFailed
from benchmarks.soak.tables import as_json, as_markdown
from micro_framework.testing.rabbitmq import RabbitMQNode

__all__ = ["main"]

HOUR = "3600"
LEAST_SECONDS = 4.0
INTERRUPTED = 130


def main(arguments: Sequence[str]) -> int:
    """Run a soak; the exit code is 1 if anything is wrong with it."""
    options = parse(arguments)
    # As Ctrl-C: through every `finally`, so that nothing is left behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    facts, code = environment(), 0
    try:
        with RabbitMQNode() as node:
            judge = Judge(node.vhost(), Plan(options.seconds), tell)
            try:
                judge.run()
            except SoakFailed as error:
                judge.faults.append(str(error))
            except KeyboardInterrupt:
                judge.faults.append("interrupted")
                code = INTERRUPTED
    except KeyboardInterrupt:
        return INTERRUPTED
    write(options.into, "soak-", md=as_markdown(judge, facts), json=json.dumps(as_json(judge, facts), indent=1))
    return code or (1 if judge.faults else 0)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    described = "Consumes, publishes and calls at the highest rate for a long time, and looks whether anything grows."
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=described)
    default = os.environ.get("MF_SOAK_SECONDS") or HOUR  # text, so that it is read, and refused, as the option is
    parser.add_argument("--seconds", type=seconds_of, default=default, metavar="N", help="how long; an hour")
    parser.add_argument("--into", type=Path, default=RESULTS, metavar="FOLDER", help="where the results go")
    return parser.parse_args(arguments)


def seconds_of(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not LEAST_SECONDS <= seconds < inf:
        raise argparse.ArgumentTypeError(f"expected a number of seconds, at least {LEAST_SECONDS:g}, not {text!r}")
    return seconds


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
