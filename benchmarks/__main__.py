"""``python -m benchmarks [--quick] [--only TEXT] [--rounds N]``: measures, prints the tables, writes ``results/``."""

import argparse
import json
import sys
from collections.abc import Sequence

from benchmarks.plan import Cell, chosen_plan
from benchmarks.report import RESULTS, as_json, as_markdown, environment, tell, write
from benchmarks.rounds import LifeRound, Round, play, play_lives
from benchmarks.runs import Contest, Void
from micro_framework.testing.rabbitmq import RabbitMQNode

__all__ = ["main"]


def main(arguments: list[str]) -> int:
    """Run what the arguments ask for; the exit code is 1 if any figure is void."""
    options = parse(arguments)
    plan = chosen_plan(options.quick, options.only, options.rounds)
    facts = environment()
    results: dict[Cell, list[Round]] = {}
    with RabbitMQNode() as node:
        contest = Contest(node, plan.seconds, plan.warmup_seconds)
        for cell in plan.cells:
            results[cell] = play(contest, cell, tell)
        lives = play_lives(contest, plan.lives, plan.life_rounds, tell) if plan.lives else []
    data = json.dumps(as_json(results, lives, facts), indent=1)
    write(RESULTS, "", md=as_markdown(results, lives, facts), json=data)
    return 1 if any(has_void(rounds) for rounds in (*results.values(), lives)) else 0


def parse(arguments: list[str]) -> argparse.Namespace:
    described = "Compares with Nameko, other peers and raw clients."
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=described)
    parser.add_argument("--quick", action="store_true", help="fewer rounds and cells, under three minutes")
    parser.add_argument("--only", default="", metavar="TEXT", help="only the cells whose title contains this")
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds of each cell")
    return parser.parse_args(arguments)


def has_void(rounds: Sequence[Round] | Sequence[LifeRound]) -> bool:
    return any(isinstance(result, Void) for played in rounds for result in played.values())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
