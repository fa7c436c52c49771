"""Nameko 2.14.1, Nameko 3.0.0rc11 and micro_framework on one RabbitMQ, by one command: `python run.py --seconds 15`.

This file makes what that takes, under `.cache/` of the repository, and hands over to `cluster.py`.
"""

import argparse
import os
import sys
from importlib.util import find_spec
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent.parent / "scripts"))

from environments import NAMEKO_VERSIONS, environment  # noqa: E402 - where it is was said just now
from run_tests import provide_broker  # noqa: E402


def main() -> None:
    """Everything that is missing is made, and said on stderr; then this process becomes the cluster's."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seconds", type=float, default=15.0, help="how long orders are placed (15)")
    arguments.add_argument("--patience", type=float, default=30.0, help="longest wait for what is under way then (30)")
    given = arguments.parse_args()
    if not os.environ.get("AMQP_URI"):
        provide_broker()
    ours = sys.executable if find_spec("kombu") and find_spec("micro_framework") else str(environment("run"))
    namekos = [str(environment(version)) for version in NAMEKO_VERSIONS]
    command = [ours, str(FOLDER / "cluster.py"), str(given.seconds), str(given.patience), *namekos]
    os.execv(ours, command)


if __name__ == "__main__":
    main()
