"""Reading YAML: invalid or contradictory YAML is reported with its line and nothing of its content."""

import pytest

from export_pipeline.configuration.document import read_document
from export_pipeline_tests.configuration.conftest import Problems


def test_lines_are_those_of_the_keys() -> None:
    """Every value knows the line of its key, at any depth, in block and flow style."""
    document = read_document(b"a: 1\nb:\n  c:\n    - x\n    - {d: 2,\n       e: 3}\n")
    assert document.tree == {"a": 1, "b": {"c": ["x", {"d": 2, "e": 3}]}}
    places = [("a",), ("b",), ("b", "c"), ("b", "c", 0), ("b", "c", 1), ("b", "c", 1, "e"), ("b", "missing")]
    assert [document.line(place) for place in places] == [1, 2, 3, 4, 5, 6, 2]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("2026-11-01", "2026-11-01"),
        ("12:30", "12:30"),
        ("1:30.5", "1:30.5"),
        ("yes", True),
        ("1_000", 1000),
        ("~", None),
        ("none", "none"),
        ("'3'", "3"),
        ("!!str 3", "3"),
    ],
)
def test_scalars(written: str, read: object) -> None:
    """Dates and times of day stay the text they were written as; the rest is as YAML 1.1 has it."""
    assert read_document(f"a: {written}".encode()).tree == {"a": read}


def test_a_byte_order_mark_is_no_part_of_the_first_key() -> None:
    """A file saved with a BOM reads as one without."""
    assert read_document(b"\xef\xbb\xbfa: 1").tree == {"a": 1}


def test_an_alias_repeats_what_its_anchor_names() -> None:
    """Options can be shared between parts of the file by an alias."""
    assert read_document(b"a: &s {x: 1}\nb: *s\n").tree == {"a": {"x": 1}, "b": {"x": 1}}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"", "x.yaml: the file is empty; it needs at least source and subscribers"),
        (b"# only a comment\n", "x.yaml: the file is empty; it needs at least source and subscribers"),
        (b"{}", "x.yaml: the file is empty; it needs at least source and subscribers"),
        (b"- a\n- b\n", "x.yaml:1: found a list at the top; allowed: a mapping of keys such as source and subscribers"),
        (b"\njust text", "x.yaml:2: found a single value at the top; allowed: a mapping of keys"),
        (
            b"source:\n\turl: x\n",
            "x.yaml:2: not valid YAML at column 1: found a tab; YAML is indented with spaces only",
        ),
        (b"source: {url: x\nfoo: 1", "x.yaml:2: not valid YAML at column 4: expected ',' or '}', but got ':'"),
        (b"a: 1\n---\nb: 2\n", "x.yaml:2: not valid YAML at column 1: found a second document (---); allowed: one"),
        (b"a: 1\nb: caf\xe9\n", "x.yaml:2: byte 0xe9 is not UTF-8; save the file as UTF-8"),
        (b"a: 1\nb: \x07\n", "x.yaml:2: the character U+0007 is not allowed in YAML"),
        (b"a:\n  ? [x]\n  : 1\n", "x.yaml:2: a: found a key that is a list or mapping; allowed: a plain name"),
        (b"frequency: &x [*x]\n", "x.yaml:1: frequency[0]: found an alias that contains itself"),
    ],
)
def test_what_is_no_deployment(problems: Problems, text: bytes, expected: str) -> None:
    """What cannot be parsed as one mapping in UTF-8 is reported with its line, and what would be allowed."""
    assert any(line.startswith(expected) for line in problems(text))


def test_a_key_that_stands_twice(problems: Problems) -> None:
    """A key's second appearance is an error that names the line of the first, not a silent overwriting."""
    assert problems("source: {url: x}\nmax_files: 3\nmax_files: 4\n") == [
        "x.yaml:3: max_files: duplicate key; it is first defined in line 2"
    ]


@pytest.mark.parametrize(
    "written",
    [
        "*planted-secret",
        "!planted-secret",
        "!planted!secret x",
        '"\\planted-secret"',
        "'planted-secret",
        "{planted-secret",
        "@planted-secret",
        "%planted-secret",
    ],
)
def test_yaml_errors_do_not_quote_the_file(problems: Problems, written: str) -> None:
    """A secret that is not valid YAML because of its first character does not appear in the error about it."""
    (line, *_) = problems(f"source: {{url: x}}\nledger:\n  url: {written}\n")
    assert line.startswith("x.yaml:")
    assert "planted" not in line
    assert "secret" not in line


def alias_bomb() -> bytes:
    """Nine aliases of nine aliases, nine times over."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    return "\n".join(lines).encode()


@pytest.mark.parametrize(
    ("data", "line", "text"),
    [
        (alias_bomb(), 1, "found more than 50,000 values, the maximum; aliases (*…) count as what they expand to"),
        (b"a: " + b"[" * 3_000 + b"]" * 3_000, 1, "found more than 50 levels of lists and mappings"),
        (b"a: " + b"{b: " * 3_000 + b"1" + b"}" * 3_000, 1, "found more than 50 levels of lists and mappings"),
        (b"\n".join(b" " * n + b"a:" for n in range(300)), 51, "found more than 50 levels of lists and mappings"),
        (b"a:\n" + b"- " * 3_000 + b"x", 2, "found more than 50 levels of lists and mappings"),
        (b"a: " + b"x" * (1 << 20), 0, "found 1,048,579 bytes; allowed: at most 1,048,576"),
    ],
    ids=["aliases", "lists", "mappings", "blocks", "dashes", "bytes"],
)
def test_what_is_too_much_is_refused_at_once(data: bytes, line: int, text: str) -> None:
    """A file that is small and stands for much, or is nested without end, is refused by what it has too much of."""
    document = read_document(data)
    (problem,) = document.problems
    assert document.tree == {}
    assert (problem.line, text in problem.text) == (line, True)


def test_aliases_are_still_read() -> None:
    """A value that is written once and used twice is in both places."""
    assert read_document(b"a: &a {x: [1, 2]}\nb: *a").tree == {"a": {"x": [1, 2]}, "b": {"x": [1, 2]}}
