"""Loading a deployment file: what a good one gives, and what every wrong one says."""

import json
import re
from datetime import date
from pathlib import Path

import pytest
from dagster._core.definitions.utils import DISALLOWED_NAMES
from pydantic import BaseModel

from export_pipeline.configuration.schedule import FREQUENCIES
from export_pipeline.deployment import Deployment, load_deployment
from export_pipeline.errors import ConfigurationError
from export_pipeline.secrets import EnvRef
from export_pipeline.subscribers.registry import known_types
from export_pipeline_tests.configuration.conftest import Load, Problems
from export_pipeline_tests.configuration.subscriber_types import Crm

CRM = "export_pipeline_tests.configuration.subscriber_types:Crm"
ALIASED = "export_pipeline_tests.configuration.subscriber_types:Aliased"
CARELESS = "export_pipeline_tests.configuration.subscriber_types:Careless"
SECRET = "whsec_planted-secret"
"""A value that must appear in no error."""


def crm(options: str) -> str:
    """A deployment with one subscriber ``crm`` with these options."""
    return f"source: {{url: here}}\nsubscribers:\n  crm:\n    type: {CRM}\n" + "".join(
        f"    {line}\n" for line in options.splitlines()
    )


def test_a_minimal_file_gets_the_defaults(load: Load) -> None:
    """With a source alone, every other key has the documented default."""
    deployment = load("source: {url: here}")
    assert deployment.frequency == "ten_minutes"
    assert deployment.cron == "*/10 * * * *"
    assert deployment.timezone == "UTC"
    assert deployment.enabled is True
    assert (deployment.max_files, deployment.catch_up_max_files, deployment.lookback_hours) == (100, 1000, 26)
    assert (deployment.start_from, deployment.max_attempts, deployment.subscribers) == ("beginning", 5, {})
    assert deployment.ledger.url == ".dagster/export.db"
    assert deployment.limits.max_event_bytes == 16 * 1024 * 1024
    assert (deployment.limits.max_depth, deployment.limits.max_unpacked_ratio) == (512, 1000)
    assert deployment.manifest.max_bytes == 256 * 1024 * 1024


def test_small_files_of_a_backlog_are_one_unit(load: Load) -> None:
    """By default all that a run takes of a backlog is read and delivered as one manifest, where the files are small."""
    deployment = load("source: {url: here}")
    assert deployment.manifest.max_files == deployment.catch_up_max_files == 1000


def test_every_key_is_read(load: Load) -> None:
    """A file that sets everything is read as it is written."""
    deployment = load(
        f"""
        source:
          url: arn:aws:s3:::acme/events
          layout: dt=%Y-%m-%d/
          start_date: 2026-01-31
        frequency: 5 4 * * 1-5
        timezone: Europe/Berlin
        enabled: false
        max_files: 7
        catch_up_max_files: 70
        lookback_hours: 1.5
        start_from: 2026-11-01
        max_attempts: 2
        batch: {{max_events: 3, max_bytes: 4}}
        manifest: {{max_files: 5, max_bytes: 6}}
        limits: {{max_event_bytes: 8, max_depth: 9, max_unpacked_ratio: 10, max_unpacked_bytes: 11}}
        staging: {{url: "s3://acme/staging", endpoint_url: "http://127.0.0.1:9000"}}
        ledger: {{url: "postgresql://me@db/export"}}
        quarantine: {{url: /q}}
        subscribers:
          one: {{type: {CRM!r}, url: abc, secret: whsec_12, since: 2026-11-02, tags: [x]}}
          two: {{type: {CARELESS!r}, since: now}}
        """
    )
    assert (deployment.source.layout, deployment.source.start_date) == ("dt=%Y-%m-%d/", date(2026, 1, 31))
    assert (deployment.cron, deployment.timezone, deployment.enabled) == ("5 4 * * 1-5", "Europe/Berlin", False)
    assert (deployment.max_files, deployment.catch_up_max_files, deployment.lookback_hours) == (7, 70, 1.5)
    assert (deployment.start_from, deployment.max_attempts) == (date(2026, 11, 1), 2)
    assert deployment.batch.model_dump() == {"max_events": 3, "max_bytes": 4}
    assert deployment.manifest.model_dump() == {"max_files": 5, "max_bytes": 6}
    assert list(deployment.limits.model_dump().values()) == [8, 9, 10, 11]
    assert (deployment.staging.url, deployment.staging.endpoint_url) == ("s3://acme/staging", "http://127.0.0.1:9000")
    assert deployment.ledger.url == "postgresql://me@db/export"
    assert deployment.quarantine.url == "/q"
    one, two = deployment.subscribers.values()
    assert (one.name, one.type_name, one.resource_class, one.since) == ("one", CRM, Crm, date(2026, 11, 2))
    assert one.options == {"url": "abc", "secret": "whsec_12", "since": "2026-11-02", "tags": ["x"]}
    assert (two.name, two.since) == ("two", "now")


@pytest.mark.parametrize("name", FREQUENCIES)
def test_the_names_of_frequencies(load: Load, name: str) -> None:
    """WordPress's names of recurring events are taken, and ten_minutes."""
    assert load(f"source: {{url: x}}\nfrequency: {name}").cron == FREQUENCIES[name]


@pytest.mark.parametrize("wrong", ["hourli", "* * * *", "* * * * * *", "61 * * * *", "0 0 30 2 *", "@daily", "''"])
def test_a_frequency_that_dagster_would_not_run(problems: Problems, wrong: str) -> None:
    """Neither a name nor a cron expression of five fields that ever comes due: the names are listed."""
    (line,) = problems(f"source: {{url: x}}\nfrequency: {json.dumps(wrong.strip(chr(39)))}")
    assert line.startswith("x.yaml:2: frequency: found ")
    assert line.endswith(
        "allowed: one of ten_minutes, hourly, twicedaily, daily, weekly, or a cron expression of five fields "
        "(minute hour day month weekday)"
    )


@pytest.mark.parametrize("wrong", ["Mars/Base", "Europe", "../UTC", "''", "berlin"])
def test_a_time_zone_that_does_not_exist(problems: Problems, wrong: str) -> None:
    """A time zone is one of IANA's."""
    (line,) = problems(f"source: {{url: x}}\ntimezone: {wrong}")
    assert "allowed: an IANA time zone such as UTC, Europe/Berlin" in line


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("max_files: many", "x.yaml:2: max_files: found the text 'many'; allowed: a whole number"),
        ("max_files: '3'", "x.yaml:2: max_files: found the text '3'; allowed: a whole number"),
        ("max_files: 1.5", "x.yaml:2: max_files: found the number 1.5; allowed: a whole number"),
        ("max_files: true", "x.yaml:2: max_files: found true; allowed: a whole number"),
        ("max_files: 0", "x.yaml:2: max_files: found the number 0; allowed: at least 1"),
        ("max_files:", "x.yaml:2: max_files: found nothing; allowed: a whole number"),
        ("max_files: [1]", "x.yaml:2: max_files: found a list; allowed: a whole number"),
        ("lookback_hours: -1", "x.yaml:2: lookback_hours: found the number -1; allowed: at least 0"),
        ("lookback_hours: .inf", "x.yaml:2: lookback_hours: found the number inf; allowed: a finite number"),
        ("enabled: 1", "x.yaml:2: enabled: found the number 1; allowed: true or false"),
        ("enabled: 'no'", "x.yaml:2: enabled: found the text 'no'; allowed: true or false"),
        ("start_from: 3", "x.yaml:2: start_from: found the number 3; allowed: beginning, now, or a date (YYYY-MM-DD)"),
        (
            "start_from: 2026-02-30",
            "x.yaml:2: start_from: found the text '2026-02-30'; "
            "allowed: beginning, now, or a date that exists (YYYY-MM-DD)",
        ),
        ("limits: 3", "x.yaml:2: limits: found the number 3; allowed: a mapping of keys"),
        ("batch:\n  max_events: x", "x.yaml:3: batch.max_events: found the text 'x'; allowed: a whole number"),
        (
            "batch:\n  max_event: 3",
            "x.yaml:3: batch.max_event: unknown key (did you mean max_events?); allowed: max_bytes, max_events",
        ),
        ("ledger: {url: mysql://u@h/d}", "x.yaml:2: ledger.url: found a text of 13 characters; allowed: a path for "
         "SQLite, sqlite:///path, or postgresql://user:password@host:5432/database"),
        ("subscribers: [a]", "x.yaml:2: subscribers: found a list; allowed: a mapping of names to subscribers, "
         "each with a type"),
        ("frequenzy: daily", "x.yaml:2: frequenzy: unknown key (did you mean frequency?); allowed: alerts, batch, "),
    ],
)  # fmt: skip
def test_a_wrong_value(problems: Problems, text: str, expected: str) -> None:
    """An invalid value is reported with file, line and path, what was found and what is allowed."""
    (line,) = problems(f"source: {{url: x}}\n{text}\n")
    assert line.startswith(expected)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{}", "x.yaml:1: source.url: this key is missing: The folder in which files land"),
        ("{url: ''}", "x.yaml:1: source.url: found an empty text; allowed: a text of at least 1 characters"),
        ("{url: 'ftp://h/x'}", "x.yaml:1: source.url: URL with ftp:// is not supported; allowed: s3://bucket/prefix"),
        ("{url: x, layout: '%d/%Y'}", "x.yaml:1: source.layout: layout '%d/%Y' has %d %Y; allowed are, in this order"),
        (
            "{url: x, start_date: soon}",
            "x.yaml:1: source.start_date: found the text 'soon'; allowed: a date (YYYY-MM-DD)",
        ),
        ("{url: x, retry_mode: lazy}", "x.yaml:1: source.retry_mode: found the text 'lazy'; allowed: 'adaptive'"),
        (
            "{url: x, regoin_name: y}",
            "x.yaml:1: source.regoin_name: unknown key (did you mean region_name?); allowed: ",
        ),
        ("s3://bucket", "x.yaml:1: source: found a text of 11 characters; allowed: a mapping of keys"),
    ],
)
def test_a_wrong_source(problems: Problems, source: str, expected: str) -> None:
    """The source's own checks speak through the same error."""
    (line,) = problems(f"source: {source}")
    assert line.startswith(expected)


def test_a_file_without_a_source(problems: Problems) -> None:
    """A missing source is reported with a description of it."""
    assert problems("max_files: 3") == ["x.yaml:1: source: this key is missing: Where raw files land."]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            "url: abc\nsecret: whsec_12\nbogus: 1",
            "x.yaml:7: subscribers.crm.bogus: unknown key; allowed: ",
        ),
        (
            "url: abc\nsecret: whsec_12\nsekret: 1",
            "x.yaml:7: subscribers.crm.sekret: unknown key (did you mean secret?)",
        ),
        ("secret: whsec_12", "x.yaml:3: subscribers.crm.url: this key is missing: Address."),
        (
            "url: a\nsecret: whsec_12",
            "x.yaml:5: subscribers.crm.url: found the text 'a'; allowed: a text of at least 3",
        ),
        (
            "url: abc\nsecret: whsec_12\nmode: x",
            "x.yaml:7: subscribers.crm.mode: found the text 'x'; allowed: 'fast' or",
        ),
        (
            "url: abc\nsecret: whsec_12\nlimit: 10",
            "x.yaml:7: subscribers.crm.limit: found the number 10; allowed: at most 9",
        ),
        (
            "url: abc\nsecret: whsec_12\ntags: [a, 3]",
            "x.yaml:7: subscribers.crm.tags[1]: found the number 3; allowed: a text",
        ),
        (
            "url: abc\nsecret: whsec_12\ntags:\n- a\n- b: c",
            "x.yaml:9: subscribers.crm.tags[1]: found a mapping; allowed: a",
        ),
        ("url: abc\nsecret: whsec_12\nsince: soon", "x.yaml:7: subscribers.crm.since: 'soon' is neither now"),
    ],
)
def test_a_wrong_option_of_a_subscriber(problems: Problems, options: str, expected: str) -> None:
    """A subscriber's own model is asked, and its answer told with the path in the file."""
    (line,) = problems(crm(options))
    assert line.startswith(expected)


def test_a_class_that_lets_unknown_keys_pass_is_still_checked(problems: Problems) -> None:
    """A misspelt option is never dropped silently, whatever the class itself would do."""
    text = f"source: {{url: x}}\nsubscribers:\n  own:\n    type: {CARELESS}\n    sinze: now\n"
    (line,) = problems(text)
    assert line.startswith("x.yaml:5: subscribers.own.sinze: unknown key (did you mean since?); allowed: ")
    assert "retry_for_seconds, since, type" in line


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            "class: planted",
            "x.yaml:5: subscribers.own.class: found a text of 7 characters; allowed: a text of at least 8",
        ),
        ("from: 0\n    class: long-enough", "x.yaml:5: subscribers.own.from: found the number 0; allowed: at least 1"),
        (
            "class_: long-enough",
            "x.yaml:5: subscribers.own.class_: unknown key (did you mean class?); allowed: class, ",
        ),
        ("from: 2", "x.yaml:3: subscribers.own.class: this key is missing: Class."),
    ],
)
def test_keys_are_those_of_the_file(problems: Problems, options: str, expected: str) -> None:
    """An option whose field has an alias is known, marked as a secret and told by that alias."""
    lines = problems(f"source: {{url: x}}\nsubscribers:\n  own:\n    type: {ALIASED}\n    {options}\n")
    assert any(line.startswith(expected) for line in lines)
    assert not [line for line in lines if "planted" in line]


def test_an_unknown_type_lists_the_known_ones(problems: Problems) -> None:
    """A misspelt type is answered with those that are installed."""
    (line,) = problems("source: {url: x}\nsubscribers:\n  crm:\n    type: webhok\n")
    assert line.startswith("x.yaml:4: subscribers.crm.type: unknown type 'webhok': did you mean 'webhook'?")
    assert f"known are {', '.join(known_types())}, or package.module:Class" in line


def test_a_missing_type_lists_the_known_ones(problems: Problems) -> None:
    """A subscriber without a type is answered with those that are installed."""
    (line,) = problems("source: {url: x}\nsubscribers:\n  crm: {url: x}\n")
    allowed = f"{', '.join(known_types())}, or package.module:Class"
    assert line == f"x.yaml:3: subscribers.crm.type: this key is missing; allowed: {allowed}"
    assert "files, " in allowed


@pytest.mark.parametrize("name", ["CRM", "1a", "a-b", "ä", "a" * 41, "_a"])
def test_a_name_that_dagster_cannot_use(problems: Problems, name: str) -> None:
    """A subscriber's name is lower-case, because it becomes the name of a resource, an op and an asset."""
    (line,) = problems(f"source: {{url: x}}\nsubscribers:\n  {name}: {{type: {CARELESS!r}}}\n")
    assert line.startswith(
        f"x.yaml:3: subscribers.{name}: not a valid name of a subscriber; allowed: a lower-case letter"
    )


@pytest.mark.parametrize("name", ["source", "ledger", "staging", "quarantine", "io_manager", "raw_events"])
def test_a_name_that_is_taken(problems: Problems, name: str) -> None:
    """Names of the project's own resources and assets are refused."""
    (line,) = problems(f"source: {{url: x}}\nsubscribers:\n  {name}: {{type: {CARELESS!r}}}\n")
    assert line.startswith(f"x.yaml:3: subscribers.{name}: this name is reserved")


def test_every_name_that_dagster_reserves_is_refused_with_its_line(problems: Problems) -> None:
    """Names of which Dagster can build no op, output or resource are refused when the file is read, each by its line.

    They are Dagster's own list, Python's keywords included; a test may look at it where it is not public.
    """
    reserved = sorted(name for name in DISALLOWED_NAMES if re.fullmatch("[a-z][a-z0-9_]*", name))
    assert {"meta", "config", "context", "type", "input", "output", "int", "class"} <= set(reserved)
    entries = "".join(f"  {name!r}: {{type: {CARELESS!r}}}\n" for name in reserved)
    assert problems(f"source: {{url: x}}\nsubscribers:\n{entries}") == [
        f"x.yaml:{line}: subscribers.{name}: this name is reserved by Dagster or Python; allowed: any other, such as "
        f"{name}_events"
        for line, name in enumerate(reserved, 3)
    ]


def test_subscribers_may_all_be_commented_out(load: Load) -> None:
    """``subscribers:`` with nothing under it means none, and is not an error: the tick is skipped with a reason."""
    assert load("source: {url: x}\nsubscribers:\n#  crm: {}\n").subscribers == {}


def test_all_problems_are_told_at_once(problems: Problems) -> None:
    """All errors of a file are reported at once: one line each, in the order of the file."""
    lines = problems(
        "source: {url: x, foo: 1}\nmax_files: x\nsubscribers:\n"
        f"  crm: {{type: {CRM!r}, url: a, secret: {{env: NOT_SET}}}}\n"
        "  other: {type: nope}\nmax_files: 3\n"
    )
    assert [line.split(": ")[1] for line in lines] == [
        "source.foo",
        "max_files",
        "subscribers.crm.secret",
        "subscribers.crm.url",
        "subscribers.other.type",
        "max_files",
    ]


def test_a_variable_is_looked_up_when_the_file_is_loaded(load: Load) -> None:
    """``{env: NAME}`` can replace any text; a secret keeps the name, and other options take the value."""
    text = """
        source: {url: {env: BUCKET}, aws_access_key_id: {env: ID}, aws_secret_access_key: {env: KEY}}
        frequency: {env: OFTEN}
        ledger: {url: {env: LEDGER}}
        subscribers:
          crm:
            type: <crm>
            url: {env: CRM_URL}
            secret: {env: CRM_SECRET}
            tags: [a, {env: TAG}]
            headers: {x: {env: H}}
        """.replace("<crm>", CRM)
    environ = {
        "BUCKET": "s3://acme/x",
        "ID": "key-id",
        "KEY": "key-value",
        "OFTEN": "daily",
        "LEDGER": "postgresql://u:p@h/d",
        "CRM_URL": "https://crm",
        "CRM_SECRET": SECRET,
        "TAG": "blue",
        "H": "bearer",
    }
    deployment = load(text, environ)
    assert (deployment.source.url, deployment.cron) == ("s3://acme/x", "0 0 * * *")
    assert deployment.source.aws_secret_access_key == EnvRef(env="KEY")
    assert deployment.ledger.url == EnvRef(env="LEDGER")
    options = deployment.subscribers["crm"].options
    assert (options["url"], options["secret"]) == (EnvRef(env="CRM_URL"), EnvRef(env="CRM_SECRET"))
    assert (options["tags"], options["headers"]) == (["a", EnvRef(env="TAG")], {"x": EnvRef(env="H")})
    assert deployment.references["subscribers", "crm", "tags", 1] == EnvRef(env="TAG")
    assert deployment.secret_values() == {*environ.values(), "p"}  # p: the password in LEDGER


def test_printing_a_deployment_shows_no_secret(load: Load) -> None:
    """Neither a variable's value nor a secret written into the file shows in the deployment's repr."""
    text = crm("url: abc\nsecret: {env: CRM_SECRET}\nheaders: {x: planted-too}") + (
        "staging: {url: x, aws_access_key_id: planted-id, aws_secret_access_key: planted-key}\n"
        "ledger: {url: 'postgresql://u:planted-password@h/d'}\n"
    )
    deployment = load(text, {"CRM_SECRET": SECRET})
    assert "planted" not in repr(deployment)
    assert "planted" not in str(deployment)


def test_secrets_written_into_the_file_are_known(load: Load) -> None:
    """Literal secrets are scrubbed too; a path to a ledger is none, but a password in its URL is."""
    text = crm("url: abc\nsecret: whsec_literal\nheaders: {x: bearer-literal}")
    assert load(text).secret_values() == {"whsec_literal", "bearer-literal"}
    assert load("source: {url: x}\nledger: {url: ledger.db}").secret_values() == frozenset()
    assert load("source: {url: x}\nledger: {url: 'postgresql://u:p%40ss@h/d'}").secret_values() == {"p%40ss", "p@ss"}


@pytest.mark.parametrize(("environ", "state"), [({}, "is not set"), ({"CRM_SECRET": ""}, "is empty")])
def test_a_missing_variable_is_one_clear_problem(problems: Problems, environ: dict[str, str], state: str) -> None:
    """A variable that is not set is reported with file, line, path and its name, and nothing else is shown."""
    lines = problems(crm("url: abc\nsecret: {env: CRM_SECRET}"), environ)
    assert lines == [f"x.yaml:6: subscribers.crm.secret: the environment variable CRM_SECRET {state}"]


@pytest.mark.parametrize("name", ["planted-secret", "3", "[planted]", "", "planted secret"])
def test_a_variable_needs_a_name(problems: Problems, name: str) -> None:
    """Where the secret itself was pasted as the variable's name, it is not shown."""
    (line,) = problems(crm(f"url: abc\nsecret: {{env: {name}}}"))
    assert line.startswith("x.yaml:6: subscribers.crm.secret: found ")
    assert line.endswith("as env; allowed: the name of an environment variable, such as CRM_SECRET")
    assert "planted" not in line


@pytest.mark.parametrize(
    "options",
    [
        "secret: planted-secret",
        "secret: [planted-secret]",
        "secret: {planted-secret: 1}",
        "secret: {env: X, planted-secret: 1}",
        "headers: planted-secret",
        "headers: [planted-secret]",
        "headers: {x: [planted-secret]}",
        "url: abc\nsecret: {env: PLANTED}\nbogus: 1",
        "url: {env: PLANTED}\nsecret: whsec_12\nlimit: {env: PLANTED}",
        "mode: {env: PLANTED}",
        "since: {env: PLANTED}",
        "tags: {env: PLANTED}",
        "type: planted-secret",
    ],
)
def test_no_secret_in_an_error(problems: Problems, options: str) -> None:
    """A secret in any wrong place, from the environment or written into the file, is reported by its length only."""
    text = crm(options) if "type" not in options else "source: {url: x}\nsubscribers:\n  crm: {type: {env: PLANTED}}"
    lines = problems(text, {"PLANTED": "planted-secret"})
    assert lines
    assert not [line for line in lines if "planted" in line]


@pytest.mark.parametrize(
    "text",
    [
        "ledger: {url: 'mysql://u:planted-secret@h/d'}",
        "staging: {url: 'ftp://u:planted-secret@h/d'}",
        "staging: 's3://u:planted-secret@h/d'",
        "ledger: planted-secret@h/d",
        "max_files: {env: PLANTED}",
        "frequency: {env: PLANTED}",
        "timezone: {env: PLANTED}",
        "limits: {env: PLANTED}",
        "subscribers: {env: PLANTED}",
        "staging: {aws_secret_access_key: {a: planted-secret}}",
        "staging: {aws_secret_access_key: 12345678}",
    ],
)
def test_no_secret_in_an_error_outside_of_subscribers(problems: Problems, text: str) -> None:
    """The same holds for the rest of the file: credentials in URLs and values of variables are not shown."""
    lines = problems(f"source: {{url: x}}\n{text}", {"PLANTED": "planted-secret"})
    assert lines
    assert not [line for line in lines if "planted" in line or "12345678" in line]


def test_an_unreadable_file_is_a_clear_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file without read permission is reported as such."""
    (folder / "x.yaml").write_text("source: {url: x}")

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(ConfigurationError, match=r"^x\.yaml: cannot be read: Permission denied$"):
        load_deployment("x.yaml", {})


def test_every_field_is_described_and_has_a_default() -> None:
    """Every key has a description; only the source's URL has no default."""

    def fields(model: type[BaseModel], above: str) -> list[tuple[str, bool, bool]]:
        rows = []
        for name, field in model.model_fields.items():
            rows.append((f"{above}{name}", bool(field.description), field.is_required()))
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                rows += fields(field.annotation, f"{above}{name}.")
        return rows

    rows = fields(Deployment, "")
    assert len(rows) > 40
    assert [name for name, described, _ in rows if not described] == []
    assert [name for name, _, required in rows if required] == ["source", "source.url"]
