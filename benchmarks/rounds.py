"""Interleaved rounds: every contestant once per round, the order reversed each time, so that drift hits all alike."""

from collections.abc import Callable, Iterator, Sequence

from benchmarks.lives import FIGURES, Life, measure_life
from benchmarks.plan import CONTESTANTS, LIVES_TITLE, Cell
from benchmarks.runs import Contest, Run, Void

__all__ = ["LifeRound", "Round", "play", "play_lives", "turns"]

Round = dict[str, Run | Void]
"""What each contestant did in one round, by name."""

LifeRound = dict[str, Life | Void]
"""The life of each contestant in one round, by name."""


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


def play_lives(
    contest: Contest, contestants: Sequence[str], rounds: int, tell: Callable[[str], None]
) -> list[LifeRound]:
    """Every round of lives; arguments as of `play`."""
    return [play_life_round(contest, order, tell) for order in turns(contestants, rounds)]


def play_life_round(contest: Contest, order: Sequence[str], tell: Callable[[str], None]) -> LifeRound:
    results: LifeRound = {}
    for name in order:
        try:
            life = measure_life(contest, CONTESTANTS[name])
        except Void as void:
            results[name] = void
            tell(f"{LIVES_TITLE}: {name}: VOID: {void}")
            continue
        results[name] = life
        figures = ", ".join(f"{title} {getattr(life, field):,.0f}" for field, title in FIGURES.items())
        tell(f"{LIVES_TITLE}: {name}: {figures}")
    return results
