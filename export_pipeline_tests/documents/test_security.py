"""docs/security.md and SECURITY.md: each test that is cited is there."""

import ast
import re

from export_pipeline_tests.documents.blocks import ROOT

PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")


def test_every_test_that_is_cited_is_there() -> None:
    """Each row of the threats cites tests, and each of them is in the file that is named."""
    table = PAGE.partition("## Threats")[2].partition("\n## ")[0]
    rows = [row.split(" | ") for row in re.findall(r"^\| (?!threat)(.*) \|$", table, re.MULTILINE)]
    assert len(rows) > 20
    for threat, done, shown, left in rows:
        assert all((threat, done, left))
        cited = re.findall(r"`([\w/]+\.py)(?:::(\w+))?`", shown)
        assert cited, threat
        for file, name in cited:
            tree = ast.parse((ROOT / "export_pipeline_tests" / file).read_text(encoding="utf-8"))
            tests = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
            assert {one for one in tests if one.startswith("test_")}, file
            assert not name or name in tests, f"{file}::{name}"


def test_no_address_is_invented() -> None:
    """A vulnerability is reported by GitHub's form; there is no mailbox that nobody reads."""
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    assert "Report a vulnerability" in text
    assert re.findall(r"[\w.+-]+@[\w-]+\.\w+", text + PAGE) == []
