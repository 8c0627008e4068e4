"""README and docs: no block escapes its test, no link leads nowhere."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from export_pipeline.deployment import load_deployment
from export_pipeline.errors import ConfigurationError
from export_pipeline.ledger import deliveries, manifests
from export_pipeline_tests.documents.blocks import PAGES, ROOT, Block, all_blocks, blocks_of, path_in_repository
from export_pipeline_tests.test_architecture import FLOORS, KNOWS_DAGSTER

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SOURCE = "source:\n  url: s3://acme-analytics/events/\n"


def place(block: Block) -> str:
    return block.place


@pytest.mark.parametrize("block", all_blocks(marked=True), ids=place)
def test_no_block_escapes(block: Block) -> None:
    """Every fenced block is of a kind that a test runs or parses, or is marked with the reason why none does."""
    assert block.problem == ""


def test_what_no_test_knows_is_told() -> None:
    """A language that no test knows, none at all, and a mark without a reason are problems; so is an open fence."""
    page = "```ruby\nputs 1\n```\n\n- in a list:\n\n  ~~~~\n  ```\n  ~~~~\n\n<!-- not run: no -->\n```text\nx\n```\n"
    found = list(blocks_of("page", page))
    assert [block.text for block in found] == ["puts 1\n", "```\n", "x\n"]
    assert [bool(block.problem) for block in found] == [True, True, True]
    with pytest.raises(ValueError, match="page:1: the block is never closed"):
        list(blocks_of("page", "```sh\nmake demo\n"))


@pytest.fixture
def files_of_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A working folder with the modules that pages show, which are forgotten afterwards."""
    for block in all_blocks("python"):
        if block.file:
            path = tmp_path / block.file
            path.parent.mkdir(exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in {"my_package", "acme_export"}:
            del sys.modules[name]


@pytest.mark.usefixtures("files_of_pages")
@pytest.mark.parametrize("block", all_blocks("yaml"), ids=place)
def test_every_deployment_shown_is_valid(block: Block) -> None:
    """Each deployment, or part of one, in README and docs loads, given the variables that it names."""
    path = Path("shown.yaml")
    text = block.text if "source:" in block.text else SOURCE + block.text
    path.write_text(text, encoding="utf-8")
    environ = dict.fromkeys(re.findall(r"\{env: (\w+)\}", text), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    environ |= {"LEDGER_URL": "postgresql://export:password@db.example.com/export"}
    environ |= dict.fromkeys(("ON_CALL_URL", "TEAM_URL"), "json://alerts.example.com/token")
    environ |= {"HEARTBEAT_URL": "https://switch.example.com/token"}
    assert load_deployment(str(path), environ).subscribers


@pytest.mark.parametrize("block", all_blocks("yml"), ids=place)
def test_every_mapping_shown_is_yaml(block: Block) -> None:
    """What is shown as the default of a mapping is one."""
    assert isinstance(yaml.safe_load(block.text), dict)


@pytest.mark.parametrize("path", sorted((ROOT / "deployments").glob("*.yaml")), ids=lambda path: path.name)
def test_every_deployment_shipped_is_valid(path: Path) -> None:
    """Each file under deployments/ loads, given the variables that it names."""
    environ = {"CRM_WEBHOOK_SECRET": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "LEDGER_URL": "postgresql://a:b@c/d"}
    assert load_deployment(str(path), environ).subscribers


def test_the_errors_shown_are_those_of_today(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each line of an error that docs/configuration.md shows is what that mistake gives, but for what is left out."""
    (block,) = (block for block in all_blocks(marked=True) if block.reason == "a deployment file with two mistakes")
    text = (ROOT / "deployments" / "production.yaml").read_text(encoding="utf-8")
    assert "frequency: ten_minutes" in text
    (tmp_path / "deployments").mkdir()
    (tmp_path / "deployments" / "production.yaml").write_text(
        text.replace("frequency: ten_minutes", "frequency: hourli")
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError) as raised:
        load_deployment("production", {"LEDGER_URL": "postgresql://a:b@c/d"})
    told = re.sub(r":\d+:", ":N:", str(raised.value))
    for line in block.text.splitlines():
        assert re.sub(r":\d+:", ":N:", line).partition("…")[0] in told


@pytest.mark.parametrize("block", all_blocks("toml"), ids=place)
def test_every_toml_block_is_toml(block: Block) -> None:
    """TOML on a page is TOML, with something in it."""
    assert tomllib.loads(block.text)


@pytest.mark.parametrize("block", all_blocks("python"), ids=place)
def test_every_python_block_compiles(block: Block) -> None:
    """Python on a page is Python."""
    compile(block.text, block.place, "exec")


def test_every_python_block_is_run() -> None:
    """Each is a file that a test runs: in test_your_own.py, test_webhooks.py, test_scripts.py and test_recipes.py."""
    run = {"my_package/spool.py", "tests/test_spool.py", "my_package/analytics.py", "copy_ledger.py", "receiver.py"}
    run |= {"acme_export/spool.py", "my_exports.py"}
    assert {block.file for block in all_blocks("python")} == run


def test_every_folder_shown_exists() -> None:
    """The tree of docs/design.md has what the checkout has: no entry is missing, and no folder or module of ours."""
    (block,) = (block for block in all_blocks(marked=True) if block.reason.startswith("the tree of folders"))
    inside = ""
    shown: set[str] = set()
    for line in block.text.splitlines():
        name = line.split()[0]
        inside = inside if line.startswith("  ") else name
        shown.add(f"{inside}{name}" if line.startswith("  ") else name)
    assert [path for path in sorted(shown) if not (ROOT / path).exists()] == []
    package = ROOT / "export_pipeline"
    there = {f"export_pipeline/{path.parent.name}/" for path in package.glob("*/__init__.py")}
    assert there - shown == set()


def test_the_structure_shown_is_that_of_the_code() -> None:
    """docs/design.md names the floors of the package and the modules that import Dagster."""
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \d+ \| (.*) \|$", text, re.MULTILINE)
    assert [set(re.findall(r"`(\w+)`", row)) for row in rows] == [floor - {"__init__"} for floor in FLOORS]
    sentence = text.partition("Dagster is imported by ")[2].partition("Nothing else imports it")[0]
    assert set(re.findall(r"`([\w.]+)`", sentence)) == KNOWS_DAGSTER


def test_the_states_shown_are_those_of_the_ledger() -> None:
    """docs/design.md describes every state of a manifest and of a delivery, and names no other as the next one."""
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    owned = {
        "manifest": {manifests.PLANNED, manifests.READ, manifests.GIVEN_UP, manifests.SUPERSEDED},
        "delivery": {
            deliveries.OWED,
            deliveries.DELIVERED,
            deliveries.WAIVED,
            deliveries.GIVEN_UP,
            deliveries.SPLIT,
        },
    }
    for kind, states in owned.items():
        table = text.partition(f"| {kind} | meaning | next |\n|---|---|---|\n")[2].partition("\n\n")[0]
        rows = [line.strip("|").split(" | ") for line in table.splitlines()]
        assert {state.strip().strip("`") for state, *_ in rows} == states
        assert {state for *_, following in rows for state in re.findall(r"`(\w+)`", following)} <= {*states, "all"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_make_target_shown_exists(page: Path) -> None:
    """`make something` on a page is a target of the Makefile."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shown = set(re.findall(r"(?:^|`)make ([a-z-]+)", page.read_text(encoding="utf-8"), re.MULTILINE))
    assert shown <= targets


TEMPLATES = sorted((ROOT / ".github").rglob("*.md")) + sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


@pytest.mark.parametrize("page", [*PAGES, *TEMPLATES], ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    """A link or picture, relative or absolute, names an existing file of this repository, and an existing heading."""
    targets = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    for target in targets:
        absolute = path_in_repository(target)
        if absolute is None and "://" in target:
            continue
        file, _, heading = (absolute or target).partition("#")
        path = (ROOT if absolute else page.parent) / file if file else page
        assert path.exists(), target
        assert not heading or heading in headings(path), target


def headings(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    found = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in found}


@pytest.mark.parametrize("block", all_blocks("json"), ids=place)
def test_every_json_shown_is_json(block: Block) -> None:
    """What is shown as JSON can be read as such."""
    assert json.loads(block.text)


# Phrases that made readers stop, each with the plain one. Marked regions that a benchmark writes are left out.
IDIOMS = {
    r"without a word": "silently",
    r"\banew\b": "again, or: regenerate",
    r"\bshall\b": "must, or: will",
    r"\bmend(s|ed|ing)?\b": "fix",
    r"\b(is|are) told\b": "is reported",
    r"\blies? in\b": "is in",
    r"\bstands? in\b": "is in, or: replaces",
    r"\bpass(es|ed)? by\b": "skip, or: bypass",
    r"\basks? for patience\b": "retry",
    r"for want of": "because there is no",
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_are_in_plain_english(page: Path) -> None:
    """No page uses a phrase from the list; code and quoted messages may."""
    text = re.sub(r"<!-- ([a-z-]+)(: begin[^>]*)? -->.*?<!-- (/\1|\1: end) -->", "", page.read_text(), flags=re.DOTALL)
    text = re.sub(r"^```.*?^```$|`[^`\n]*`", "", text, flags=re.MULTILINE | re.DOTALL)
    assert [f"{found[0]}: write {plain}" for idiom, plain in IDIOMS.items() for found in re.finditer(idiom, text)] == []


def test_pages_have_the_words_that_people_search_for() -> None:
    """A search for the field's own terms finds a page."""
    text = " ".join(page.read_text(encoding="utf-8") for page in PAGES).lower()
    terms = (
        "malformed, invalid, dropped silently, detected, retry, dead letter, throughput, troubleshooting, backlog, lag"
    )
    assert [term for term in terms.split(", ") if term not in text] == []
