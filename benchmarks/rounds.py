"""Interleaved rounds: every contestant once per round, the order reversed each time, so that drift hits all alike."""

from collections.abc import Callable, Iterator, Sequence

from benchmarks.plan import CONTESTANTS, Cell
from benchmarks.runs import Contest, Run, Void

__all__ = ["Round", "play", "turns"]

Round = dict[str, Run | Void]
"""What each contestant did in one round, by name."""


def turns(contestants: Sequence[str], rounds: int) -> Iterator[Sequence[str]]:
    """The order of the contestants in each round: forwards, backwards, forwards ..."""
    for number in range(rounds):
        yield contestants if number % 2 == 0 else contestants[::-1]


def play(contest: Contest, cell: Cell, tell: Callable[[str], None]) -> list[Round]:
    """Every round of a cell.

    Args:
        contest: Where to run.
        cell: What to run.
        tell: Gets one line for each run.
    """
    return [play_round(contest, cell, order, tell) for order in turns(cell.contestants, cell.rounds)]


def play_round(contest: Contest, cell: Cell, order: Sequence[str], tell: Callable[[str], None]) -> Round:
    """Each contestant once; a void run does not end the round."""
    results: Round = {}
    for name in order:
        try:
            run = contest.run(cell, CONTESTANTS[name])
        except Void as void:
            results[name] = void
            tell(f"{cell.title}: {name}: VOID: {void}")
            continue
        results[name] = run
        tell(f"{cell.title}: {name}: {run.rate:,.0f}/s, {run.cpu:.0f} us CPU, {run.window:.2f} s")
    return results
