"""``export-pipeline init``."""

import os
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from export_pipeline.cli.app import app
from export_pipeline.deployment import load_deployment
from export_pipeline.secrets import EnvRef
from export_pipeline_tests.cli.conftest import Done, in_terminal

ROOT = Path(__file__).parents[2]
SIMPLE = ("init", "mine", "--yes", "--source", "s3://acme/events/")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with nothing in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    return tmp_path


def init(*arguments: str) -> Done:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    return Done(result.exit_code, result.stdout, result.stderr)


def test_a_file_from_options() -> None:
    """With --yes and options a file is written that loads, says what was asked for, and explains itself."""
    done = init(
        *SIMPLE,
        *("--layout", "%Y/%m/%d/%H/", "--frequency", "*/5 * * * *", "--start-from", "2026-11-01"),
        *("--place", "ledger=env:LEDGER_URL", "--place", "staging=s3://acme/staging"),
        *(
            "--subscriber",
            "crm=webhook",
            "--set",
            "crm.url=https://example.com/x",
            "--set",
            "crm.secret=env:CRM_SECRET",
        ),
        *("--set", "crm.max_in_flight=4", "--set", "crm.only={event_type: [pageView]}"),
        *("-s", "archive=files", "--set", "archive.url=s3://acme/archive", "--set", "archive.since=beginning"),
    )
    assert done.code == 0, done.err
    assert done.out.splitlines() == [
        "wrote deployments/mine.yaml",
        "wrote workspace.yaml and dagster.yaml: what Dagster loads here, and its settings",
        "set these environment variables before the first run: CRM_SECRET, LEDGER_URL",
        "next: export-pipeline check; export-pipeline dev",
    ]
    environ = {"LEDGER_URL": "postgresql://a:b@c/d", "CRM_SECRET": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}
    found = load_deployment("mine", environ)
    assert (found.source.url, found.source.layout) == ("s3://acme/events/", "%Y/%m/%d/%H/")
    assert (found.frequency, str(found.start_from)) == ("*/5 * * * *", "2026-11-01")
    assert (found.ledger.url, found.staging.url) == (EnvRef(env="LEDGER_URL"), "s3://acme/staging")
    assert found.subscribers["crm"].options["secret"] == EnvRef(env="CRM_SECRET")
    assert found.subscribers["crm"].options["max_in_flight"] == 4
    assert found.subscribers["crm"].options["only"] == {"event_type": ["pageView"]}
    assert found.subscribers["archive"].since == "beginning"
    text = Path("deployments/mine.yaml").read_text()
    assert "# Signing secret: whsec_ and the base64 of 24 to 64 random bytes." in text
    assert "# How often the export runs: " in text
    assert max(map(len, text.splitlines())) <= 120


def test_dagsters_files_are_those_of_this_project(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the first deployment Dagster's settings are written as this project has them; what is there stays, and
    dagster.yaml is left out where DAGSTER_HOME names another place for it.
    """
    monkeypatch.setenv("DAGSTER_HOME", "/elsewhere")
    assert init(*SIMPLE).code == 0
    assert not (folder / "dagster.yaml").exists()
    monkeypatch.delenv("DAGSTER_HOME")
    (folder / "workspace.yaml").write_text("load_from: []")
    assert init(*SIMPLE, "--force").code == 0
    assert (folder / "workspace.yaml").read_text() == "load_from: []"
    assert (folder / "dagster.yaml").read_bytes() == (ROOT / "dagster.yaml").read_bytes()
    for name in ("dagster.yaml", "workspace.yaml"):
        assert (ROOT / "export_pipeline" / "configuration" / name).read_bytes() == (ROOT / name).read_bytes()


def test_the_defaults_are_those_of_the_model() -> None:
    """A file with nothing but a source is as if all else had been left out; what is commented out are the defaults."""
    assert init(*SIMPLE).code == 0
    found = load_deployment("mine", {})
    Path("bare.yaml").write_text("source: {url: 's3://acme/events/'}")
    assert found.model_dump() == load_deployment("bare.yaml", {}).model_dump()
    text = Path("deployments/mine.yaml").read_text()
    for key in ("max_files: 100", "lookback_hours: 26.0", "staging: {url: .dagster/staging}"):
        assert key.replace("26.0", "26") in text.replace("26.0", "26")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--source", "s4://acme"], "--source: found 's4://acme'; URL with s4:// is not supported"),
        (["--source", "s3://acme", "--layout", "%H"], "--layout: found '%H'; layout '%H' has %H; allowed are"),
        (["--source", "s3://acme", "--frequency", "often"], "--frequency: found 'often'; allowed: one of ten_minutes"),
        (["--source", "s3://acme", "--start-from", "then"], "--start-from: found 'then'; allowed: beginning, now"),
        (["--source", "s3://acme", "--place", "stage=s3://x"], "--place: found stage; allowed: ledger, staging"),
        (["--source", "s3://acme", "-s", "crm=webhok"], "unknown type 'webhok': did you mean 'webhook'?"),
        (["--source", "s3://acme", "-s", "Crm=webhook"], "not a valid name of a subscriber"),
        (["--source", "s3://acme", "-s", "crm"], "--subscriber: found 'crm' without a value; allowed: NAME=VALUE"),
        (["--source", "s3://acme", "--set", "crm.url=x"], "--set: found crm; allowed: names given with --subscriber"),
        (["--source", "s3://acme", "-s", "crm=webhook"], "subscribers.crm.url: this key is missing"),
        (["--source", "s3://acme", "-s", "crm=webhook", "--set", "crm.ulr=x"], "subscribers.crm.ulr: unknown key (did"),
        ([], "--source is missing"),
    ],
)
def test_nothing_wrong_is_written(arguments: list[str], text: str) -> None:
    """Errors are reported in the words of the deployment file, with its path, and no file is written."""
    done = init("init", "mine", "--yes", *arguments)
    assert done.code == 2
    assert text in done.err
    assert not Path("deployments").exists()


def test_a_secret_is_refused() -> None:
    """A secret given in plain text is refused, not repeated, and told how to be given."""
    planted = "planted-secret-write-key"
    done = init(*SIMPLE, "-s", "product=segment", "--set", f"product.write_key={planted}")
    assert done.code == 2
    assert "product.write_key=env:VARIABLE" in done.err
    assert planted not in done.err + done.out
    assert not Path("deployments").exists()


def test_a_file_that_is_there_stays() -> None:
    """A file is overwritten only with --force, or after the user confirms it."""
    assert init(*SIMPLE).code == 0
    path = Path("deployments/mine.yaml")
    before = path.read_bytes()
    done = init("init", "mine", "--yes", "--source", "s3://other")
    assert done.code == 2
    assert "exists and was not changed; --force overwrites it" in done.err
    assert path.read_bytes() == before
    assert init("init", "mine", "--yes", "--source", "s3://other", "--force").code == 0
    assert yaml.safe_load(path.read_text())["source"]["url"] == "s3://other"


def test_without_a_terminal_nothing_is_asked() -> None:
    """Without a terminal, the command names the options that replace the questions, instead of waiting."""
    done = init("init", "mine")
    assert done.code == 2
    assert "cannot ask questions without a terminal; give --yes, and the answers as options" in done.err


def test_questions_in_a_terminal(folder: Path) -> None:
    """Each question is asked until its answer will do; the answers make the file, with the names of variables only."""
    answers = [
        *("web", "s9://acme", "s3://acme/events", "", "sometimes", "hourly", ""),
        *("y", "from", "crm", "webhook", "https://example.com/x", "CRM_SECRET"),
        *("y", "product", "segment", ""),
        "n",
    ]
    done = in_terminal(
        ["init"], columns=80, typed="".join(f"{one}\n" for one in answers).encode(), cwd=folder, env=dict(os.environ)
    )
    assert done.code == 0, done.out
    assert "URL with s9:// is not supported" in done.out
    assert "this name is reserved" in done.out
    assert "wrote deployments/web.yaml" in done.out
    written = yaml.safe_load((folder / "deployments" / "web.yaml").read_text())
    assert written == {
        "source": {"url": "s3://acme/events", "layout": "%Y/%m/%d"},
        "frequency": "hourly",
        "start_from": "beginning",
        "subscribers": {
            "crm": {"type": "webhook", "url": "https://example.com/x", "secret": {"env": "CRM_SECRET"}},
            "product": {"type": "segment", "write_key": {"env": "PRODUCT_WRITE_KEY"}},
        },
    }
    done = in_terminal(["init", "web"], columns=80, typed=b"n\n", cwd=folder, env=dict(os.environ))
    assert done.code == 2
    assert "was not changed" in done.out
