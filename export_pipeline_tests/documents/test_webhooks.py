"""docs/webhooks.md: its receivers, with the reference libraries of Standard Webhooks, take what is sent."""

import base64
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

from export_pipeline.delivery.sending import send_to
from export_pipeline.errors import Blocked
from export_pipeline.subscribers.webhook import Webhook
from export_pipeline.testing import batch_of, sample_event
from export_pipeline_tests.documents.blocks import block_of_file
from export_pipeline_tests.servers.programs import answers, free_port, missing, program, wait_for

SECRET = "whsec_" + base64.b64encode(b"a signing secret of some length!").decode()
EVENTS = [sample_event(n) for n in range(5)]
Held = Callable[[], list[Any]]


def of_python(folder: Path) -> tuple[list[str], Held]:
    def held() -> list[Any]:
        database = sqlite3.connect(folder / "events.db")
        rows = database.execute("SELECT event FROM events ORDER BY rowid").fetchall()
        database.close()
        return [json.loads(event) for (event,) in rows]

    return [sys.executable, "receiver.py"], held


def of_javascript(folder: Path) -> tuple[list[str], Held]:
    node, npm = (program(name, "sudo apt-get install npm") for name in ("node", "npm"))
    found = subprocess.run([npm, "root", "--global"], capture_output=True, text=True, check=True).stdout.strip()
    if not (Path(found) / "standardwebhooks").is_dir():
        missing("standardwebhooks", "npm install --global standardwebhooks")
    (folder / "node_modules").symlink_to(found)

    def held() -> list[Any]:
        batches = [json.loads(path.read_bytes()) for path in sorted((folder / "events").glob("*.json"))]
        return [event for batch in batches for event in (batch["data"] if isinstance(batch, dict) else batch)]

    return [node, "receiver.js"], held


@pytest.fixture(params=["receiver.py", "receiver.js"])
def receiver(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Held]]:
    """The address of the page's receiver, running, and what it holds."""
    (tmp_path / request.param).write_text(block_of_file(request.param).text, encoding="utf-8")
    command, held = (of_python if request.param.endswith(".py") else of_javascript)(tmp_path)
    port, log = free_port(), tmp_path / "log"
    environ = {**os.environ, "WEBHOOK_SECRET": SECRET}
    with log.open("wb") as output:
        process = subprocess.Popen([*command, str(port)], cwd=tmp_path, env=environ, stdout=output, stderr=output)
    try:
        wait_for(answers(port), processes=[process], log=log)
        yield f"http://127.0.0.1:{port}/", held
    finally:
        process.kill()
        process.wait()


def test_a_batch_is_taken_once_and_only_with_its_signature(receiver: tuple[str, Held]) -> None:
    """Compressed or not; a repeat changes nothing; another secret is answered with 401."""
    url, held = receiver
    for gzip in (False, True):
        webhook = Webhook(url=url, secret=SECRET, gzip=gzip)
        assert send_to(webhook, batch_of(EVENTS)).accepted == 5
        webhook.close()
        assert held() == [json.loads(event) for event in EVENTS]
    stranger = Webhook(url=url, secret="whsec_" + base64.b64encode(b"x" * 32).decode())
    with pytest.raises(Blocked, match="answered 401"):
        send_to(stranger, batch_of(EVENTS, "another"))
    stranger.close()
    assert len(held()) == 5


@pytest.mark.parametrize("body", ["object", "ndjson"])
@pytest.mark.parametrize("receiver", ["receiver.js"], indirect=True)
def test_other_bodies_reach_the_reference_library_for_javascript(
    body: Literal["object", "ndjson"], receiver: tuple[str, Held]
) -> None:
    """An object is read; lines are verified, and then thrown at, which is why they are not the default."""
    url, held = receiver
    webhook = Webhook(url=url, secret=SECRET, body=body, retry_for_seconds=0)
    if body == "object":
        assert send_to(webhook, batch_of(EVENTS)).accepted == 5
        assert held() == [json.loads(event) for event in EVENTS]
    else:
        with pytest.raises(Exception, match="answered 500"):
            send_to(webhook, batch_of(EVENTS))
    webhook.close()
