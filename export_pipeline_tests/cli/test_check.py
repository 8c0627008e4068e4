"""``export-pipeline check``."""

from pathlib import Path

import pytest

from export_pipeline_tests.cli.conftest import CommandLine
from export_pipeline_tests.integration.project import Project
from export_pipeline_tests.integration.test_s3 import in_s3, objects
from export_pipeline_tests.servers.alerts import AlertReceiver
from export_pipeline_tests.servers.http import Reply, Request, Server
from export_pipeline_tests.servers.s3 import ACCESS_KEY, SECRET_KEY, S3Server

PYTHON = {"type": "python", "function": "export_pipeline_tests.integration.receivers:crm"}
NOBODY = "http://127.0.0.1:1"


def outcomes(cli: CommandLine, *, code: int) -> dict[str, dict[str, str]]:
    done = cli("check", "--json")
    assert done.code == code, done.err
    return {one["name"]: one for one in done.json()}


def test_all_is_well(project: Project, cli: CommandLine, received: Path) -> None:
    """Every place and subscriber has a line, the exit code is 0, and nothing is left behind or delivered."""
    project.config["subscribers"]["crm"] = PYTHON
    project.put_days("23")
    done = cli("check")
    assert done.code == 0
    assert [line.split()[:2] for line in done.out.splitlines()] == [
        ["source", "ok"],
        ["staging", "ok"],
        ["quarantine", "ok"],
        ["ledger", "ok"],
        ["copy", "ok"],
        ["crm", "ok"],
    ]
    assert done.err == ""
    assert project.copied() == []
    assert project.staged() == []
    assert [path for path in (project.root / "quarantine").rglob("*") if path.is_file()] == []


def test_each_failure_is_told_with_what_to_do(project: Project, cli: CommandLine) -> None:
    """Each failure comes with the reason and advice; the others are checked anyway, and the exit code is 1."""
    (project.root / "file").write_text("in the way")
    project.config.update(
        source={"url": str(project.root / "nowhere")},
        staging={"url": str(project.root / "file" / "staging")},
        ledger={"url": "postgresql://export:hunter2hunter2@127.0.0.1:1/export"},
        subscribers={
            "crm": {"type": "webhook", "url": NOBODY},
            "mine": {"type": "python", "function": "no_such_module:receive"},
            "copy": {"type": "files", "url": str(project.root / "copy")},
        },
    )
    done = cli("check")
    assert done.code == 1
    assert "hunter2hunter2" not in done.out + done.err
    assert done.err.splitlines()[-1] == "failed: source, staging, ledger, crm, mine"
    found = outcomes(cli, code=1)
    assert {name for name, one in found.items() if one["is_well"]} == {"quarantine", "copy"}
    assert "could not be listed" in found["source"]["detail"]
    assert "source.url" in found["source"]["advice"]
    assert "Connection refused" in found["ledger"]["detail"]
    assert "try again" in found["crm"]["advice"]
    assert "no_such_module" in found["mine"]["detail"]
    assert all(one["advice"] for one in found.values() if not one["is_well"])


def test_a_layout_that_no_key_has(project: Project, cli: CommandLine) -> None:
    """A source whose keys do not match the layout fails, with one of the keys; an empty one is well."""
    assert "is empty so far" in outcomes(cli, code=0)["source"]["detail"]
    project.put("dt=2026-11-23/a.gz", [{"a": 1}])
    source = outcomes(cli, code=1)["source"]
    assert "none of the first 1 key matches the layout '%Y/%m/%d', such as dt=2026-11-23/a.gz" in source["detail"]
    project.config["source"]["layout"] = "dt=%Y-%m-%d/"
    assert "listed and read " in outcomes(cli, code=0)["source"]["detail"]


def test_places_in_s3(project: Project, cli: CommandLine, moto: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Places in S3 are opened with the secrets that the file names, and hold no test object afterwards."""
    monkeypatch.setenv("TEST_ACCESS_KEY", ACCESS_KEY)
    monkeypatch.setenv("TEST_SECRET_KEY", SECRET_KEY)
    bucket = moto.new_bucket()
    moto.put(bucket, {"raw/2026/11/23/a.gz": b'{"a":1}'})
    project.config.update(
        source=in_s3(moto, f"s3://{bucket}/raw/"),
        staging=in_s3(moto, f"s3://{bucket}/staging/"),
        quarantine=in_s3(moto, f"s3://{bucket}/quarantine/"),
    )
    assert "first dated key is 2026/11/23/a.gz" in outcomes(cli, code=0)["source"]["detail"]
    assert set(objects(moto, bucket)) == {"raw/2026/11/23/a.gz"}


def test_a_wrong_login(project: Project, cli: CommandLine, rclone: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong secret key fails with what the store says, and neither key is shown."""
    wrong = "not-the-right-secret-key-at-all-1234567"
    monkeypatch.setenv("TEST_ACCESS_KEY", ACCESS_KEY)
    monkeypatch.setenv("TEST_SECRET_KEY", wrong)
    project.config["staging"] = in_s3(rclone, f"s3://{rclone.new_bucket()}/staging/", max_attempts=1)
    done = cli("check")
    assert done.code == 1
    assert done.err.splitlines()[-1] == "failed: staging"
    assert wrong not in done.out + done.err
    assert ACCESS_KEY not in done.out + done.err


def test_names_that_are_left_alone_are_counted(project: Project, cli: CommandLine) -> None:
    """The source's line shows how many names were ignored, by which pattern, and what could not be listed."""
    project.put_days("23")
    project.put("2026/11/23/00/x.gz.tmp", [{"n": 1}])
    (Path(project.config["source"]["url"]) / "broken").symlink_to("nowhere")
    detail = outcomes(cli, code=0)["source"]["detail"]
    assert "ignored 1 temporary or hidden name, such as 2026/11/23/00/x.gz.tmp, which matches '*.tmp' in" in detail
    assert "1 listing warning, the first for broken: the symbolic link is left out" in detail


@pytest.mark.parametrize("secret", ["whsec_not/base64!at*all", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2La", "whsec_ünïcödé"])
def test_a_webhook_secret_that_cannot_sign(
    project: Project, cli: CommandLine, monkeypatch: pytest.MonkeyPatch, secret: str
) -> None:
    """A secret that receivers cannot decode to one key, or that is too short, fails before the first delivery does."""
    monkeypatch.setenv("HOOK_SECRET", secret)
    project.config["subscribers"] = {"crm": {"type": "webhook", "url": NOBODY, "secret": {"env": "HOOK_SECRET"}}}
    found = outcomes(cli, code=1)["crm"]
    assert found["detail"].startswith("secret")
    assert secret.removeprefix("whsec_") not in found["detail"]


def test_an_unknown_host_is_an_error_with_advice_of_its_own(project: Project, cli: CommandLine) -> None:
    """A name that cannot be resolved does not pass by itself: the advice is to check its spelling."""
    project.config["subscribers"] = {"crm": {"type": "webhook", "url": "https://no-such-host.invalid/hook"}}
    found = outcomes(cli, code=1)["crm"]
    assert "no-such-host.invalid" in found["detail"]
    assert "check its spelling" in found["advice"]


def test_a_folder_that_cannot_be_made(project: Project, cli: CommandLine) -> None:
    """Wherever a folder is needed and a file is in its place, the line names it."""
    (project.root / "file").write_text("in the way")
    inside = project.root / "file" / "inside"
    project.config.update(
        staging={"url": str(inside / "staging")},
        quarantine={"url": str(inside / "quarantine")},
        ledger={"url": str(inside / "ledger.db")},
        subscribers={
            "copy": {"type": "files", "url": str(inside / "copy")},
        },
    )
    found = outcomes(cli, code=1)
    assert {name for name, one in found.items() if not one["is_well"]} == {"staging", "quarantine", "ledger", "copy"}
    shown = cli("check").out.replace("\n", " ")
    assert all(str(inside / name) in shown for name in ("staging", "quarantine", "ledger.db", "copy"))


def test_each_line_names_the_place_that_it_tried(project: Project, cli: CommandLine) -> None:
    """Also where all is well, and never with the password of a URL."""
    project.config["subscribers"]["crm"] = {"type": "webhook", "url": "http://user:hunter2hunter2@127.0.0.1:1/hook"}
    found = outcomes(cli, code=1)
    assert found["source"]["place"] == project.bucket.as_uri()
    assert found["staging"]["place"] == (project.root / "staging").as_uri()
    assert found["ledger"]["place"] == str(project.root / "ledger.db")
    assert found["copy"]["place"] == (project.root / "copy").as_uri()
    assert found["crm"]["place"] == "http://127.0.0.1:1/hook"
    assert "hunter2hunter2" not in cli("check").out


def test_an_alert_url_that_is_none(project: Project, cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known before the first failure: the line has the variable, and not its value."""
    monkeypatch.setenv("CHAT", "nosuchservice://token-1234567/chan")
    project.config["alerts"] = [{"to": {"env": "CHAT"}}]
    found = outcomes(cli, code=1)["alerts to CHAT"]
    assert "not an apprise URL" in found["detail"]
    assert "token-1234567" not in cli("check").out


def test_a_test_message_is_sent_only_if_it_is_asked_for(
    project: Project, cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`check` looks at the address; `check --alerts` sends a message to it, and fails if nobody accepts that."""
    with AlertReceiver() as server:
        monkeypatch.setenv("CHAT", server.address)
        project.config["alerts"] = [{"to": {"env": "CHAT"}}]
        assert outcomes(cli, code=0)["alerts to CHAT"]["is_well"]
        assert server.alerts == []
        assert cli("check", "--alerts").code == 0
        (alert,) = server.alerts
        assert alert.title == "[test] test message"
    assert cli("check", "--alerts").code == 1


def test_a_variable_that_is_not_set_fails_only_what_needs_it(
    project: Project, cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lines of that subscriber and that address name the variable; every other place is tried."""
    for name in ("HOOK_SECRET", "CHAT", "HEART"):
        monkeypatch.delenv(name, raising=False)
    hook = {"type": "webhook", "url": "https://127.0.0.1:1/hook", "secret": {"env": "HOOK_SECRET"}}
    project.config["subscribers"]["crm"] = hook
    project.config["alerts"] = [{"to": {"env": "CHAT"}}, {"heartbeat": {"env": "HEART"}}]
    found = outcomes(cli, code=1)
    failed = {name: one["detail"] for name, one in found.items() if not one["is_well"]}
    assert set(failed) == {"crm", "alerts to CHAT", "alerts: heartbeat HEART"}
    assert "HOOK_SECRET" in failed["crm"]
    assert "CHAT" in failed["alerts to CHAT"]
    assert "HEART" in failed["alerts: heartbeat HEART"]
    assert found["copy"]["is_well"]


class Heart(Server):
    """A dead man's switch."""

    def answer(self, request: Request) -> Reply:
        return Reply()


def test_a_heartbeat_is_tried_and_called_only_if_it_is_asked_for(
    project: Project, cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`check` connects to its server, `check --alerts` calls it; both fail where nobody listens."""
    with Heart() as server:
        monkeypatch.setenv("HEART", f"{server.url}/ping/0123456789abcdef")
        project.config["alerts"] = [{"heartbeat": {"env": "HEART"}}]
        assert outcomes(cli, code=0)["alerts: heartbeat HEART"]["is_well"]
        assert server.requests == []
        assert cli("check", "--alerts").code == 0
        assert [request.path for request in server.requests] == ["/ping/0123456789abcdef"]
    said = cli("check")
    assert said.code == 1
    assert "0123456789abcdef" not in said.out
