"""The word that was probably meant."""

from collections.abc import Iterable

__all__ = ["edit_distance", "nearest"]


def edit_distance(left: str, right: str) -> int:
    """Count the letters to insert, drop, replace or swap with their neighbour to turn one word into the
    other.

    This is the Damerau-Levenshtein distance in its restricted form: no letter is edited twice.
    """
    before_last: list[int] = []
    last = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        row = [i]
        for j, b in enumerate(right, 1):
            cost = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (a != b))
            if i > 1 and j > 1 and a == right[j - 2] and left[i - 2] == b:
                cost = min(cost, before_last[j - 2] + 1)
            row.append(cost)
        before_last, last = last, row
    return last[-1]


def nearest(word: str, candidates: Iterable[str], limit: int = 2) -> str | None:
    """Find the candidate that is the fewest letters away, whatever the case of the letters.

    Args:
        word: The word that was written.
        candidates: The words that could have been meant.
        limit: How many letters may differ.

    Returns:
        The nearest candidate, the first in alphabetical order of several; None if all are further away than
        ``limit``.
    """
    folded = word.casefold()
    close = [name for name in candidates if abs(len(name) - len(word)) <= limit]
    ranked = sorted((edit_distance(folded, name.casefold()), name) for name in close)
    return ranked[0][1] if ranked and ranked[0][0] <= limit else None
