"""``python -m benchmarks.plot RESULTS.json PLOT.svg [TITLE ...]``: one picture of a run, in multiples of Nameko.

Without titles of tables it shows all of them.

A few rectangles need no plotting library; written by hand the file is small, the same for the same figures, and follows
the reader's light or dark colours.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from benchmarks.ratios import Spread, ratios_in
from benchmarks.report import results_of

__all__ = ["drawn", "main", "picture"]

WIDTH, LABELS, BAR, GAP, HEAD = 800, 275, 16, 4, 30
ROOM = WIDTH - LABELS - 70
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600 }
.bar { fill: #8c959f } .own { fill: #1a7f37 } .base { stroke: #cf222e; stroke-dasharray: 3 3 }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .bar { fill: #6e7681 } .own { fill: #3fb950 } }
"""


def main(arguments: Sequence[str]) -> int:
    """Draw the results of one file into another; the return value is the exit code."""
    if len(arguments) < 2:
        sys.stderr.write("usage: python -m benchmarks.plot RESULTS.json PLOT.svg [TITLE ...]\n")
        return 2
    source, target, *titles = arguments
    results = results_of(source)
    if unknown := set(titles) - {cell["title"] for cell in results["cells"]}:
        sys.stderr.write(f"{source} has no table {', '.join(map(repr, sorted(unknown)))}\n")
        return 2
    Path(target).write_text(picture(results, titles))
    return 0


def picture(results: Mapping[str, Any], titles: Sequence[str] = ()) -> str:
    """The whole SVG.

    Args:
        results: As `benchmarks.report.as_json` makes them.
        titles: Of the tables to show, none for all.
    """
    shown = {title: bars for title, bars in charts(results) if bars and (not titles or title in titles)}
    return drawn(shown, f"Messages per second, as multiples of {results['base']}")


def drawn(bars_of: Mapping[str, Mapping[str, float]], about: str) -> str:
    """The whole SVG.

    Args:
        bars_of: Of each chart its title, and its bars by their labels; a dashed line stands at 1.
        about: What it shows, for those who do not see it.
    """
    parts, top = list[str](), 10
    for title, multiples in bars_of.items():
        parts += chart(title, multiples, top)
        top += HEAD + len(multiples) * (BAR + GAP) + GAP
    frame = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" role="img">'
    return "\n".join([frame, f"<title>{escape(about)}</title>", f"<style>{STYLE}</style>", *parts, "</svg>", ""])


def charts(results: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, float]]]:
    """Of each cell its title, and the median multiple of each contestant that has one."""
    for cell in results["cells"]:
        spreads = {name: Spread.of(ratios_in(cell["rounds"], name, [results["base"]])) for name in cell["rounds"][0]}
        yield cell["title"], {name: spread.median for name, spread in spreads.items() if spread is not None}


def chart(title: str, multiples: Mapping[str, float], top: int) -> Iterator[str]:
    """The bars of one cell; a dashed line where the base's end."""
    scale = ROOM / max(multiples.values())
    yield f'<text class="title" x="0" y="{top + 14}">{escape(title)}</text>'
    for number, (name, value) in enumerate(multiples.items()):
        y = top + HEAD - 6 + number * (BAR + GAP)
        kind = "own" if name.startswith("micro_framework") else "bar"
        yield f'<text x="12" y="{y + 13}">{escape(name)}</text>'
        yield f'<rect class="{kind}" x="{LABELS}" y="{y}" width="{value * scale:.1f}" height="{BAR}" rx="2"/>'
        yield f'<text x="{LABELS + value * scale + 6:.1f}" y="{y + 13}">{value:.2f}</text>'
    x, bottom = LABELS + scale, top + HEAD - 6 + len(multiples) * (BAR + GAP)
    yield f'<line class="base" x1="{x:.1f}" x2="{x:.1f}" y1="{top + HEAD - 8}" y2="{bottom}"/>'


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
