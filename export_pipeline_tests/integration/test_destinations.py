"""Destinations within the whole job: limits, filters, refusals and parallel batches."""

import json
import time
from pathlib import Path

import pytest

from export_pipeline.testing import sample_event
from export_pipeline_tests.integration import receivers
from export_pipeline_tests.integration.project import Project
from export_pipeline_tests.servers.analytics import MixpanelServer
from export_pipeline_tests.servers.http import Reply, Request
from export_pipeline_tests.servers.receiver import Receiver
from export_pipeline_tests.servers.segment import SegmentServer

pytestmark = pytest.mark.usefixtures("one_event_log")

KEY = "wr1te-key-of-the-source"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DESTINATION_KEY", KEY)


def test_segment_gets_every_event_and_the_quarantine_what_it_cannot_take(project: Project) -> None:
    """Oversized and nameless events end in the quarantine, with reasons, all others at Segment, and all adds up."""
    events = [sample_event(n) for n in range(60)]
    large = sample_event(60, event_type="click", metrics={"text": "x" * 40_000})
    nobody = b'{"event_type":"click"}'
    project.put("2026/11/23/00/a.gz", [*events[:30], large, *events[30:], nobody])
    with SegmentServer(KEY) as server:
        project.config["subscribers"] = {
            "product": {"type": "segment", "write_key": {"env": "DESTINATION_KEY"}, "api_url": server.url}
        }
        assert project.run().success
        assert len(server.calls) == 120
        assert server.dropped == []
    assert project.imbalances() == []
    reasons = {record["text"][:40]: record["reason"] for record in project.quarantined()}
    assert len(reasons) == 2
    assert "allowed: 32768 per event" in reasons[large.decode()[:40]]
    assert "neither userId nor anonymousId" in reasons[nobody.decode()]


def test_partial_success_is_no_failure(project: Project) -> None:
    """Mixpanel answers 400 for a few events: they go to the quarantine, the run succeeds, nothing is sent again."""
    events = [sample_event(n, **({"event_timestamp": "x"} if n in (3, 7) else {})) for n in range(10)]
    project.put("2026/11/23/00/a.gz", events)
    with MixpanelServer(KEY) as server:
        project.config["subscribers"] = {
            "mixpanel": {"type": "mixpanel", "token": {"env": "DESTINATION_KEY"}, "api_url": server.url}
        }
        assert project.run().success
        assert len(server.by_id) == 8
        calls = len(server.requests)
        assert project.run().success
        assert len(server.requests) == calls
    assert project.imbalances() == []
    assert [json.loads(record["text"]) for record in project.quarantined()] == [json.loads(events[n]) for n in (3, 7)]


def test_what_is_filtered_is_counted_and_does_not_leave(project: Project) -> None:
    """Only the chosen events, without the dropped fields; the equation holds, and nothing is owed."""
    project.put("2026/11/23/00/a.gz", [sample_event(n) for n in range(9)])
    options = {"only": ["click"], "drop_fields": ["endpoint.User", "attributes.*"]}
    project.config["subscribers"]["copy"] |= options
    assert project.run().success
    copied = [json.loads(line) for line in project.copied()]
    assert [event["event_type"] for event in copied] == ["click"] * 3
    assert all("User" not in event["endpoint"] and event["attributes"] == {} for event in copied)
    assert project.imbalances() == []
    assert project.states("copy") == ["delivered"]


class OneFails(Receiver):
    """Fails for one batch while instructed to, and is slow, so that several are in flight."""

    fails = ""
    most = 0
    inside = 0

    def answer(self, request: Request) -> Reply:
        if request.headers["webhook-id"].endswith(self.fails or "nothing"):
            return Reply(403, b"not this one")
        return super().answer(request)

    def next_fault(self) -> None:
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        time.sleep(0.05)
        with self.lock:
            self.inside -= 1


def test_several_batches_in_flight(project: Project) -> None:
    """With ``max_in_flight`` a failing batch holds up no accepted one, and the next run sends only what is owed."""
    lines = project.put("2026/11/23/00/a.gz", [{"n": n} for n in range(40)])
    project.config["batch"] = {"max_events": 2}
    with OneFails(None) as receiver:
        project.config["subscribers"] = {
            "crm": {"type": "webhook", "url": receiver.url, "max_in_flight": 4, "retry_for_seconds": 0}
        }
        receiver.fails = "-5"
        first = project.run()
        assert not first.success
        assert any("403" in reason for reason in first.failures.values())
        taken = set(receiver.taken)
        assert 5 <= len(taken) <= 9
        receiver.fails = ""
        assert project.run().success
        assert receiver.repeats == 0
        assert sorted(receiver.events()) == sorted(lines)
        assert receiver.most > 1
    assert project.imbalances() == []


def test_one_in_flight_keeps_the_order(project: Project, received: Path) -> None:
    """By default batches arrive one after the other, in key order."""
    project.config["batch"] = {"max_events": 1}
    project.config["subscribers"] = {
        "crm": {"type": "python", "function": "export_pipeline_tests.integration.receivers:crm"}
    }
    lines = project.put_days("22", "23")
    assert project.run().success
    assert receivers.events("crm", received) == lines
