"""docs/configuration.md says what the models say."""

from pathlib import Path

import pytest

from export_pipeline.configuration import documentation
from export_pipeline.deployment import Deployment

ROOT = Path(__file__).parents[2]


def test_the_page_is_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page in the checkout is the one that the models give today."""
    monkeypatch.chdir(ROOT)
    assert documentation.main(["--check"]) == 0


def test_a_page_that_is_out_of_date_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A page that differs, or is missing, fails the check and names the command; writing it fixes that."""
    assert documentation.main(["--check"]) == 1
    assert "make docs-generate" in capsys.readouterr().err
    assert documentation.main([]) == 0
    assert documentation.main(["--check"]) == 0
    (folder / "docs" / "configuration.md").write_text("something else")
    assert documentation.main(["--check"]) == 1


def test_every_key_is_on_the_page() -> None:
    """No key of the model, at any depth, is missing."""
    page = documentation.page()
    for name, field in Deployment.model_fields.items():
        assert f"`{name}`" in page or f"## {name}\n" in page
        for inner in getattr(field.annotation, "model_fields", {}):
            assert f"| `{inner}` |" in page
