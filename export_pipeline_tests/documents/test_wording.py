"""The English of the code: texts, docstrings and comments use none of the phrases that made readers stop."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from export_pipeline_tests.documents.blocks import ROOT
from export_pipeline_tests.documents.test_pages import IDIOMS

# Beside those of the pages: what occurs in messages and comments.
MORE = {
    r"\bonce more\b": "again",
    r"\bwhoever\b": "anyone who",
    r"\bof (its|their|one's|your) own\b": "separate, or: its own",
    r"\b(some|every|any)body\b": "someone, or a subject that acts",
    r"\bperson\b": "user, or: someone",
    r"(?<![Tt]here )\b(is|are|was|were) no (?!longer\b|more\b|sooner\b)": "is not a",
    r"\b[Ww]here (it|that|there|one|this|nothing|none) (is|are|was|has|does)\b": "if",
    r"\bso many\b": "this many",
    r"\bbears?\b": "has",
    r"\blies?\b": "is",
    r"\bstands? (here|there|beside|behind|at)\b": "is",
    r"\btried again\b": "retried",
    r"\ball the same\b": "anyway",
    r"\b[Ww]hat be(comes|came) of\b": "what happens to",
    r"\bgo(es)? on with\b": "continues",
    r"\bhand(s|ed|ing)? (over|out)\b": "deliver",
    r"\bbad stretch": "malformed record",
}


def modules() -> list[Path]:
    """The modules of the package."""
    return sorted((ROOT / "export_pipeline").rglob("*.py"))


def texts(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of each string, docstrings included, and of each comment; what is filled in becomes one mark."""
    tree = ast.parse(source)
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            filled = (part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
            yield node.lineno, "".join(map(str, filled))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            yield node.lineno, node.value
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


@pytest.mark.parametrize("module", modules(), ids=lambda path: str(path.relative_to(ROOT / "export_pipeline")))
def test_code_is_in_plain_english(module: Path) -> None:
    """No message, docstring or comment uses a phrase from the lists."""
    found = [
        f"{module.relative_to(ROOT)}:{line}: {match[0]}: write {plain}"
        for line, text in texts(module.read_text(encoding="utf-8"))
        for idiom, plain in {**IDIOMS, **MORE}.items()
        for match in re.finditer(idiom, " ".join(text.split()))
    ]
    assert found == []


def test_phrases_are_found_in_strings_docstrings_and_comments() -> None:
    """A phrase counts wherever it is written, also across lines and beside values that are filled in."""
    source = '''
def refuse(name):
    """Say it once
    more."""
    # Whoever asks.
    raise ValueError(f"{name} is no URL")
'''
    joined = [" ".join(text.split()) for _, text in texts(source)]
    for phrase in ("once more", "Whoever", "… is no URL"):
        assert any(phrase in text for text in joined)
