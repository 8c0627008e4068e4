"""docs/subscribers.md says what the classes say, and its deployment snippets work."""

import re
from pathlib import Path

import pytest
import yaml
from dagster import ConfigurableResource

from export_pipeline.deployment import load_deployment
from export_pipeline.orchestration.build import _subscriber
from export_pipeline.subscribers import documentation
from export_pipeline.subscribers.base import Subscriber, secret_fields
from export_pipeline.subscribers.registry import known_types, resolve

ROOT = Path(__file__).parents[2]


def test_the_page_is_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page in the checkout is the one that the classes give today."""
    monkeypatch.chdir(ROOT)
    assert documentation.main(["--check"]) == 0


def test_a_page_that_is_out_of_date_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A page that differs, or is missing, fails the check and names the command; writing it fixes that."""
    monkeypatch.chdir(tmp_path)
    assert documentation.main(["--check"]) == 1
    assert "make docs-generate" in capsys.readouterr().err
    assert documentation.main([]) == 0
    assert documentation.main(["--check"]) == 0
    (tmp_path / "docs" / "subscribers.md").write_text("something else")
    assert documentation.main(["--check"]) == 1


@pytest.mark.parametrize("name", sorted(known_types()))
def test_every_option_is_on_the_page(name: str) -> None:
    """Each option of each type is in its section, or among those of every subscriber."""
    page = documentation.page()
    section = re.search(rf"\n## {name}\n(.*?)(?=\n## |\Z)", page, re.DOTALL)
    assert section is not None
    common = page.partition("## Options of every subscriber")[2].partition("\n## ")[0]
    for option, info in resolve(name).model_fields.items():
        assert f"| `{info.alias or option}` |" in section[1] + common
        assert info.description


@pytest.mark.parametrize("name", sorted(known_types()))
def test_the_snippet_of_every_type_is_a_working_deployment(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copied into a deployment file, it loads; its secrets are named, and Dagster's resources can be made of it."""
    text = documentation.example(name)
    variables = dict.fromkeys(re.findall(r"\{env: (\w+)\}", text), "whsec_c2VjcmV0LXNlY3JldA==")
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    (tmp_path / "x.yaml").write_text(f"source:\n  url: s3://acme-analytics/events/\n{text}")
    deployment = load_deployment(str(tmp_path / "x.yaml"), variables)
    assert name in {entry.type_name for entry in deployment.subscribers.values()}
    for entry in deployment.subscribers.values():
        made = _subscriber(entry)
        assert isinstance(made, Subscriber)
        assert isinstance(made, ConfigurableResource)
    given = yaml.safe_load(text)["subscribers"]
    for entry in given.values():
        for secret in secret_fields(resolve(name)) & entry.keys():
            values = entry[secret].values() if "env" not in entry[secret] else [entry[secret]]
            assert all("env" in value for value in values)
