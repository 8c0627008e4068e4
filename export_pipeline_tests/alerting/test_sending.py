"""Sending through apprise, to a real receiver."""

import logging
from collections.abc import Iterator

import pytest

from export_pipeline.alerting.happening import AlertMessage
from export_pipeline.alerting.sending import parts_of, send
from export_pipeline.errors import AlertNotSent
from export_pipeline_tests.servers.alerts import Alert, AlertReceiver
from export_pipeline_tests.servers.http import Reply, ResetWhileReading
from export_pipeline_tests.servers.programs import free_port

MESSAGE = AlertMessage("[shop] run failed", "deliver_to_crm: 503\n<b> & *stars*", "failure")


@pytest.fixture
def receiver() -> Iterator[AlertReceiver]:
    with AlertReceiver() as server:
        yield server


@pytest.fixture
def everything(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Everything that is logged, at any level."""
    caplog.set_level(logging.NOTSET)
    for name in ("apprise", "urllib3", "requests"):
        caplog.set_level(logging.NOTSET, logger=name)
    return caplog


def test_a_message_arrives_as_it_is(receiver: AlertReceiver, everything: pytest.LogCaptureFixture) -> None:
    """Title, text and kind arrive unchanged, and nothing of the address is logged at any level."""
    send(receiver.address, MESSAGE)
    assert receiver.alerts == [Alert(MESSAGE.title, MESSAGE.body, "failure")]
    assert receiver.requests[0].path == "/planted-token"
    assert "planted" not in everything.text
    assert "127.0.0.1" not in everything.text


def test_loggers_are_as_they_were(receiver: AlertReceiver) -> None:
    """Whoever else uses these libraries finds their loggers unchanged."""
    logger = logging.getLogger("apprise")
    before = (logger.propagate, list(logger.handlers))
    send(receiver.address, MESSAGE)
    assert (logger.propagate, logger.handlers) == before


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Reply(500, b"planted-token is broken"), "error=500"),
        (Reply(401), "error=401"),
        (ResetWhileReading(), "Connection error"),
    ],
)
def test_a_receiver_that_refuses(
    receiver: AlertReceiver, everything: pytest.LogCaptureFixture, fault: Reply | ResetWhileReading, expected: str
) -> None:
    """What the service says comes out as the reason; of the address not a piece, nor in any log."""
    receiver.standing = fault
    with pytest.raises(AlertNotSent) as caught:
        send(receiver.address, MESSAGE)
    assert expected in str(caught.value)
    for place in (str(caught.value), everything.text):
        assert "planted" not in place
        assert "127.0.0.1" not in place


def test_nobody_listens() -> None:
    """An address where nothing listens is reported as a connection error, without the address."""
    with pytest.raises(AlertNotSent, match="Connection error") as caught:
        send(f"json://user:pass-word@127.0.0.1:{free_port()}/x", MESSAGE)
    assert "pass-word" not in str(caught.value)


@pytest.mark.parametrize("url", ["nonsense://planted-token", "planted-token", "slack://planted"])
def test_an_address_that_is_none(url: str, everything: pytest.LogCaptureFixture) -> None:
    """An invalid apprise URL is reported without showing it."""
    with pytest.raises(AlertNotSent, match="not an apprise URL") as caught:
        send(url, MESSAGE)
    assert "planted" not in str(caught.value) + everything.text


def test_the_parts_of_an_address() -> None:
    """Tokens, users, passwords and hosts are taken for secrets; the scheme, ports and short words are not."""
    parts = parts_of("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#ops?footer=no")
    assert {"T1JJ3T3L2", "A1BRTD4JD", "TIiajkdnlazkcOXrIdevi7FQ"} <= parts
    assert not {"slack", "no", "ops"} & parts
    assert parts_of("mailtos://me:secret@example.com:587") >= {"secret", "example.com"}
