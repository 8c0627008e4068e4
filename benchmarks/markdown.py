"""Markdown tables, and pages of which each make target writes its own part, between markers."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table, line by line."""
    shown = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return [*shown, *("| " + " | ".join(row) + " |" for row in rows)]


def rewrite(page: Path, mark: str, text: str) -> None:
    """Put *text* between the markers called *mark* of *page*.

    Raises:
        ValueError: the page does not have these markers.
    """
    try:
        made = rewritten(page.read_text(encoding="utf-8"), mark, text)
    except ValueError as error:
        raise ValueError(f"{page.name} {error}") from None
    page.write_text(made, encoding="utf-8")


def rewritten(page: str, mark: str, text: str) -> str:
    """*page* with *text* between the markers called *mark*."""
    pattern = rf"(<!-- {mark} -->\n).*?(<!-- /{mark} -->)"
    if not re.search(pattern, page, re.DOTALL):
        raise ValueError(f"has no markers <!-- {mark} --> and <!-- /{mark} -->")
    return re.sub(pattern, lambda found: f"{found[1]}\n{text.strip()}\n\n{found[2]}", page, flags=re.DOTALL)
