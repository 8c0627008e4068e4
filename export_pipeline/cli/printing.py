"""Layout of output: tables, labeled lines, ages."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from export_pipeline.printable import printable, printable_lines
from export_pipeline.quantities import lasting

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

_LABEL_WIDTH, _STATE_WIDTH = 12, 6
_GAP, _LEAST_WIDTH = 2, 12


def lines(rows: "Iterable[tuple[str | Text, ...]]") -> "Table":
    """Lines of a label, optionally a state, and a text; a long text wraps below its first line."""
    from rich.table import Table

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True, min_width=_LABEL_WIDTH)
    given = list(rows)
    for _ in range(max(map(len, given), default=2) - 2):
        grid.add_column(no_wrap=True, min_width=_STATE_WIDTH)
    grid.add_column(overflow="fold")
    for row in given:
        grid.add_row(*(printable_lines(cell) if isinstance(cell, str) else cell for cell in row))
    return grid


def table(
    headings: Sequence[str], rows: "Iterable[Sequence[str | Text]]", *, width: int, long: Sequence[str] = ()
) -> "Table":
    """A plain table, one line per row.

    Args:
        headings: of the columns; a heading that ends in ``#`` (not shown) marks a column of numbers, aligned right.
        width: of the terminal, in cells.
        long: headings of the columns that share the remaining width, and are truncated if it is too small.
    """
    from rich.cells import cell_len
    from rich.table import Table

    given = [[printable(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]
    titles = [heading.removesuffix("#") for heading in headings]
    widths = [max([len(titles[n]), *(cell_len(str(row[n])) for row in given)]) for n in range(len(titles))]
    room = width - sum(widths) - _GAP * (len(widths) - 1)
    for n in sorted((headings.index(heading) for heading in long), key=lambda n: -widths[n]):
        # rich would shrink every column, or wrap. The widest is shrunk first.
        taken = min(-room, widths[n] - _LEAST_WIDTH) if room < 0 else 0
        widths[n] -= max(0, taken)
        room += max(0, taken)
    found = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for title, heading, cells in zip(titles, headings, widths, strict=True):
        justify: Literal["left", "right"] = "left" if heading == title else "right"
        found.add_column(title, justify=justify, no_wrap=True, overflow="ellipsis", width=cells)
    for row in given:
        found.add_row(*row)
    return found


def ago(moment: datetime | None, now: datetime) -> str:
    """``12 min ago``; ``never`` for None."""
    return "never" if moment is None else f"{lasting((now - moment).total_seconds())} ago"


def when(moment: datetime | None) -> str:
    """``2026-11-23 18:45:07 UTC``; ``never`` for None."""
    return "never" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S} UTC"
