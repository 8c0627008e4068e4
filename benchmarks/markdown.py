"""Tables of Markdown, and pages of which each target of make writes its own part, between marks."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table, line by line."""
    shown = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return [*shown, *("| " + " | ".join(row) + " |" for row in rows)]


def rewrite(page: Path, mark: str, text: str) -> None:
    """Put *text* between the marks called *mark* of *page*.

    Raises:
        ValueError: the page has no such marks.
    """
    try:
        made = rewritten(page.read_text(encoding="utf-8"), mark, text)
    except ValueError as error:
        raise ValueError(f"{page.name} {error}") from None
    page.write_text(made, encoding="utf-8")


def rewritten(page: str, mark: str, text: str) -> str:
    """*page* with *text* between the marks called *mark*."""
    pattern = rf"(<!-- {mark} -->\n).*?(<!-- /{mark} -->)"
    if not re.search(pattern, page, re.DOTALL):
        raise ValueError(f"has no marks <!-- {mark} --> and <!-- /{mark} -->")
    return re.sub(pattern, lambda found: f"{found[1]}\n{text.strip()}\n\n{found[2]}", page, flags=re.DOTALL)
