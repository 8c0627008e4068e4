"""docs/troubleshooting.md: the messages that it quotes are those that the program prints."""

import ast
import re
from collections.abc import Iterator
from functools import cache

import pytest

from export_pipeline_tests.documents.blocks import ROOT

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
PLACEHOLDER = "\0"


def rows() -> list[tuple[str, str, str]]:
    """Symptom, cause and remedy of each row."""
    lines = re.findall(r"^\| (?!you see |---)(.*) \|$", PAGE, re.MULTILINE)
    cells = [tuple(line.split(" | ")) for line in lines]
    assert [row for row in cells if len(row) != 3] == []
    return [(symptom, cause, remedy) for symptom, cause, remedy in cells]


def quoted() -> list[str]:
    """The messages in the first column: quotations with a placeholder or a space in them, not names of things."""
    found = [message for symptom, *_ in rows() for message in re.findall(r"`([^`]+)`", symptom)]
    return [message for message in found if "…" in message or len(message.split()) > 3]


def templates() -> Iterator[str]:
    """Every text in the code of the package, each place that is filled in at run time as one character."""
    for path in (ROOT / "export_pipeline").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else PLACEHOLDER for part in node.values]
                yield "".join(map(str, parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


@cache
def texts() -> list[str]:
    """All of them, read by the first test that needs them and not by every process that collects tests."""
    return [" ".join(text.split(" ")) for text in templates()]


def fits(message: str, text: str) -> bool:
    """Whether the pieces of a quotation occur in a text of the code, in order."""
    pieces = [re.escape(piece.strip()) for piece in message.split("…") if piece.strip()]
    return re.search(r".*?".join(pieces), text, re.DOTALL) is not None


@pytest.mark.parametrize("message", quoted())
def test_every_message_is_one_of_the_program(message: str) -> None:
    """A quoted message occurs in the code, so that a search for a message finds the row."""
    assert any(fits(message, text) for text in texts())


def test_a_message_that_is_not_printed_is_noticed() -> None:
    """The comparison fails for a message in other words, and for pieces in another order."""
    assert not any(fits("the … data is cut off", text) for text in texts())
    assert not any(fits("is at schema …, the ledger in", text) for text in texts())
    assert fits("the … data is truncated", f"the {PLACEHOLDER} data is truncated")


def test_every_symptom_has_a_cause_and_a_remedy() -> None:
    """There are many symptoms, each once, none without why and what to do."""
    symptoms = [symptom for symptom, _, _ in rows()]
    assert len(symptoms) > 40
    assert len(set(symptoms)) == len(symptoms)
    assert all(len(cause) > 5 and len(remedy) > 5 for _, cause, remedy in rows())
    assert len(quoted()) > 20
