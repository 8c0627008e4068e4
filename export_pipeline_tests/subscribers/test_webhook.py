"""The webhook subscriber against a real receiver over HTTP."""

import base64
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path
from typing import Any, Literal

import dagster
import pytest
from pydantic import ValidationError
from standardwebhooks import Webhook as Verifier

from export_pipeline.delivery.sending import Sent, send
from export_pipeline.delivery.window import send_many
from export_pipeline.errors import Blocked, DeliveryError, Refused, TryLater
from export_pipeline.subscribers.base import Subscriber, secret_fields
from export_pipeline.subscribers.http_client import is_loopback, retry_after_seconds
from export_pipeline.subscribers.webhook import Webhook
from export_pipeline.testing import SubscriberContract, batch_of, sample_event
from export_pipeline_tests.servers.certificate import self_signed
from export_pipeline_tests.servers.http import (
    Drip,
    DripBefore,
    Fault,
    Reply,
    ResetWhileAnswering,
    ResetWhileReading,
    Silence,
)
from export_pipeline_tests.servers.receiver import Receiver
from export_pipeline_tests.subscribers.http_contract import HttpContract

SECRET = "whsec_" + base64.b64encode(b"a signing secret of some length!").decode()
OLD_SECRET = "whsec_" + base64.b64encode(b"the signing secret before that..").decode()
BATCH = batch_of([sample_event(n) for n in range(5)])


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver(SECRET, is_bad=lambda line: b'"bad"' in line) as receiver:
        yield receiver


@pytest.fixture
def webhook(receiver: Receiver) -> Iterator[Webhook]:
    webhook = Webhook(url=f"{receiver.url}/hook", secret=SECRET, timeout_seconds=60)
    yield webhook
    webhook.close()


class TestContract(SubscriberContract):
    """Plain bodies."""

    gzip = False
    body: Literal["ndjson", "array", "object"] = "array"
    failures = {
        "500": TryLater,
        "silent": TryLater,
        "dripping": TryLater,
        "dripping head": TryLater,
        "one 1xx after another": TryLater,
        "reset while reading": TryLater,
        "reset while answering": TryLater,
        "nobody listens": TryLater,
        "wrong secret": Blocked,
        "410": Blocked,
        "redirect": Blocked,
        "422": Refused,
    }
    faults: Mapping[str, Fault] = {
        "500": Reply(500, b"out of order"),
        "silent": Silence(),
        "dripping": Drip(),
        "dripping head": DripBefore("head"),
        "one 1xx after another": DripBefore("1xx"),
        "reset while reading": ResetWhileReading(),
        "reset while answering": ResetWhileAnswering(),
        "410": Reply(410),
        "redirect": Reply(307, headers={"location": "https://elsewhere.example/x?key=1"}),
        "422": Reply(422, b"what is that?"),
    }

    @pytest.fixture
    def subscriber(self, receiver: Receiver) -> Iterator[Subscriber]:
        self.receiver = receiver
        subscriber = self.make(SECRET)
        yield subscriber
        subscriber.close()

    def make(self, secret: str, timeout_seconds: float = 60) -> Webhook:
        url = self.receiver.url.replace("http://", "http://user:p4ssw0rd@")
        return Webhook(
            url=f"{url}/hook",
            secret=secret,
            secret_headers={"Authorization-Too": "t0ken-t0ken"},
            gzip=self.gzip,
            body=self.body,
            timeout_seconds=timeout_seconds,
        )

    def held(self) -> Iterable[bytes]:
        return self.receiver.events()

    def bad_event(self) -> bytes:
        return b'{"bad":true}'

    def broken(self, subscriber: Subscriber, failure: str) -> Subscriber:
        if failure == "wrong secret":
            return self.make(OLD_SECRET)
        if failure == "nobody listens":
            return Webhook(url="http://127.0.0.1:9/hook", secret=SECRET)
        self.receiver.standing = self.faults[failure]
        return self.make(SECRET, timeout_seconds=0.5) if failure in HttpContract.untimely else subscriber

    def mend(self) -> None:
        self.receiver.standing = None


class TestContractWithGzip(TestContract):
    """Compressed bodies."""

    gzip = True


class TestContractOfLines(TestContract):
    """A line for each event."""

    body = "ndjson"


class TestContractOfObjects(TestContract):
    """The array in an object, compressed."""

    body = "object"
    gzip = True


def test_the_request_is_a_standard_webhook(receiver: Receiver, webhook: Webhook) -> None:
    """Id, time and signature are in the headers that the specification names, and the body is an array of events."""
    webhook.deliver(BATCH)
    [request] = receiver.requests
    assert request.body == b"[" + b",".join(BATCH.lines()) + b"]"
    assert request.headers["webhook-id"] == BATCH.id
    assert request.headers["content-type"] == "application/json"
    assert abs(int(request.headers["webhook-timestamp"]) - time.time()) < 5
    assert Verifier(SECRET).verify(request.body, dict(request.headers)) == [json.loads(line) for line in BATCH.lines()]


def test_a_retry_has_the_same_id_and_a_signature_of_its_own_time(receiver: Receiver, webhook: Webhook) -> None:
    """The id stays the same at every try, while time and signature are those of the try."""
    receiver.script.append(Reply(503))
    send(BATCH, webhook.deliver, base_wait_seconds=0.01, sleep=lambda _: time.sleep(1.1))
    first, second = receiver.requests
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert int(second.headers["webhook-timestamp"]) > int(first.headers["webhook-timestamp"])
    assert second.headers["webhook-signature"] != first.headers["webhook-signature"]


@pytest.mark.parametrize("known", [SECRET, OLD_SECRET])
def test_while_secrets_rotate_both_kinds_of_receiver_accept(known: str) -> None:
    """With a previous secret requests have two signatures, and a receiver that knows only one of them accepts them."""
    with Receiver(known) as receiver:
        webhook = Webhook(url=receiver.url, secret=SECRET, previous_secret=OLD_SECRET)
        webhook.deliver(BATCH)
        webhook.close()
        assert receiver.taken == {BATCH.id: BATCH.data}
        assert len(receiver.requests[0].headers["webhook-signature"].split(" ")) == 2


def test_without_a_secret_nothing_is_signed() -> None:
    """An unsigned webhook has an id and a time, and no signature."""
    with Receiver(None) as receiver:
        webhook = Webhook(url=receiver.url)
        webhook.deliver(BATCH)
        webhook.close()
        assert "webhook-signature" not in receiver.requests[0].headers
        assert receiver.taken == {BATCH.id: BATCH.data}


def test_an_answer_that_was_lost_leads_to_a_repeat_that_does_no_harm(receiver: Receiver, webhook: Webhook) -> None:
    """The receiver took the batch but the connection broke: the same id comes again and is taken once."""
    receiver.script.append(ResetWhileAnswering())
    assert send(BATCH, webhook.deliver, base_wait_seconds=0.01).accepted == 5
    assert receiver.repeats == 1
    assert receiver.events() == BATCH.lines()


@pytest.mark.parametrize(
    ("status", "meaning"),
    [
        *((status, TryLater) for status in (408, 425, 429, 500, 502, 503, 504, 599)),
        *((status, Refused) for status in (400, 413, 422)),
        *((status, Blocked) for status in (401, 403, 404, 405, 410, 451, 301, 302, 303, 304, 307, 308)),
    ],
)
def test_what_a_status_means(receiver: Receiver, webhook: Webhook, status: int, meaning: type[DeliveryError]) -> None:
    """Each status leads to its outcome, and the message holds the status."""
    receiver.script.append(Reply(status))
    with pytest.raises(DeliveryError, match=str(status)) as caught:
        webhook.deliver(BATCH)
    assert caught.type is meaning


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_every_2xx_accepts(receiver: Receiver, webhook: Webhook, status: int) -> None:
    """Any 2xx means that the batch is taken."""
    receiver.script.append(Reply(status, b"" if status == 204 else b"thanks"))
    webhook.deliver(BATCH)


def test_the_message_holds_500_bytes_of_the_answer_and_no_secret(receiver: Receiver) -> None:
    """The receiver's response is reported, shortened; a secret that it echoes, or that is in the URL, is not."""
    receiver.script.append(Reply(403, b"you sent " + SECRET.encode() + b" " + b"x" * 10_000))
    url = receiver.url.replace("http://", "http://user:p4ssw0rd@") + "/path-of-mine?sig=s1gnature"
    webhook = Webhook(url=url, secret=SECRET, retry_for_seconds=0)
    with pytest.raises(Blocked) as caught:
        send(BATCH, webhook.deliver, secrets=webhook.secret_values())
    webhook.close()
    text = str(caught.value)
    assert text.startswith(f"{receiver.url} answered 403: you sent [secret] xxx")
    assert 400 < text.count("x") < 500
    assert not [part for part in (SECRET, "p4ssw0rd", "s1gnature", "path-of-mine") if part in text]


def test_a_path_that_the_receiver_repeats_is_not_told(receiver: Receiver) -> None:
    """Many keep their token in the path, and many a receiver says for which path it has nothing."""
    receiver.script.append(
        Reply(404, b"<pre>Cannot POST /services/T0AAAA/t0kenOfMine?v=1</pre>, /services/T0AAAA/t0kenOfMine")
    )
    webhook = Webhook(url=receiver.url + "/services/T0AAAA/t0kenOfMine?v=1", secret=SECRET, retry_for_seconds=0)
    with pytest.raises(Blocked) as caught:
        webhook.deliver(BATCH)
    webhook.close()
    assert "<pre>Cannot POST [secret]</pre>, [secret]" in str(caught.value)


def test_a_redirect_is_not_followed_and_its_target_is_told_without_query(receiver: Receiver, webhook: Webhook) -> None:
    """A redirect sends no event anywhere; the message says where it pointed, without query and password."""
    target = f"{receiver.url.replace('//', '//u:pw@')}/other?token=abc"
    receiver.script.append(Reply(308, headers={"location": target}))
    with pytest.raises(Blocked) as caught:
        webhook.deliver(BATCH)
    assert f"redirected to {receiver.url}/other; redirects are not followed" in str(caught.value)
    assert len(receiver.requests) == 1


def test_retry_after_reaches_the_sender(receiver: Receiver, webhook: Webhook) -> None:
    """Seconds and HTTP dates in Retry-After are read."""
    soon = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=60), usegmt=True)
    receiver.script.extend([Reply(429, headers={"retry-after": "17"}), Reply(503, headers={"retry-after": soon})])
    with pytest.raises(TryLater) as seconds:
        webhook.deliver(BATCH)
    with pytest.raises(TryLater) as moment:
        webhook.deliver(BATCH)
    assert seconds.value.retry_after_seconds == 17
    assert moment.value.retry_after_seconds is not None
    assert 50 < moment.value.retry_after_seconds <= 60


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0),
        ("1.5", 1.5),
        (" 30 ", 30),
        ("Mon, 23 Nov 2026 12:00:30 GMT", 30),
        ("Mon, 23 Nov 2026 11:59:00 GMT", 0),
        ("Mon, 23 Nov 2026 12:00:30 -0000", 30),
        ("-5", None),
        ("soon", None),
        ("", None),
        (None, None),
    ],
)
def test_forms_of_retry_after(header: str | None, seconds: float | None) -> None:
    """RFC 9110 allows seconds and dates; a moment that has passed means now, and nonsense means nothing."""
    assert retry_after_seconds(header, now=datetime(2026, 11, 23, 12, tzinfo=timezone.utc)) == seconds


def test_connections_are_reused(receiver: Receiver, webhook: Webhook) -> None:
    """Many batches go over one connection."""
    for n in range(5):
        webhook.deliver(batch_of([sample_event(n)], f"b-{n}"))
    assert receiver.connections == 1


@pytest.mark.parametrize(
    "url",
    ["http://example.com/hook", "http://127.0.0.1.example.com/", "http://10.0.0.1/", "http://localhost.example.com/"],
)
def test_plain_http_to_another_machine_needs_leave(url: str) -> None:
    """Events leave the machine unencrypted only where allow_http says so."""
    with pytest.raises(ValidationError, match="is not encrypted: use https://, or set allow_http: true"):
        Webhook(url=url)
    assert Webhook(url=url, allow_http=True).url == url


@pytest.mark.parametrize("url", ["ftp://example.com", "example.com/hook", "https://", "/hook"])
def test_a_url_that_is_none_is_found_at_once(url: str) -> None:
    """The error says what a URL has to look like, and shows no password."""
    with pytest.raises(ValidationError, match="is not an http:// or https:// URL"):
        Webhook(url=url)


@pytest.mark.parametrize("url", ["http://127.0.0.9:1/", "http://[::1]/", "http://localhost/", "http://a.localhost/"])
def test_loopback(url: str) -> None:
    """Plain HTTP to this machine is fine."""
    assert is_loopback(url)
    assert Webhook(url=url).url == url


def test_reserved_headers_cannot_be_overridden() -> None:
    """Headers that carry the protocol are the subscriber's."""
    with pytest.raises(ValidationError, match="the header Webhook-Id is set by the subscriber itself"):
        Webhook(url="https://example.com", headers={"Webhook-Id": "1"})


def test_more_headers_are_sent(receiver: Receiver) -> None:
    """Open and secret headers both reach the receiver."""
    webhook = Webhook(
        url=receiver.url, secret=SECRET, headers={"X-Source": "a"}, secret_headers={"Authorization": "Bearer b"}
    )
    webhook.deliver(BATCH)
    webhook.close()
    assert receiver.requests[0].headers["x-source"] == "a"
    assert receiver.requests[0].headers["authorization"] == "Bearer b"


def test_a_secret_that_is_no_base64_blocks_without_being_told() -> None:
    """A mistyped secret is named as the fault, not shown."""
    webhook = Webhook(url="https://example.com", secret="whsec_12345")
    with pytest.raises(Blocked, match=r"^the signing secret is not whsec_ followed by base64$"):
        webhook.deliver(BATCH)


@pytest.mark.parametrize("name", ["secret", "previous_secret"])
def test_check_names_a_secret_that_is_too_short(receiver: Receiver, name: str) -> None:
    """Standard Webhooks requires 24 bytes and more; with fewer, batches are delivered anyway."""
    short = "whsec_" + base64.b64encode(b"x" * 23).decode()
    receiver.secret = None
    options: dict[str, Any] = {name: short}
    webhook = Webhook(url=receiver.url, **options)
    with pytest.raises(
        Blocked, match=rf"^{name} has 23 bytes; Standard Webhooks requires 24 to 64: create one with: "
    ) as told:
        webhook.check()
    assert short not in str(told.value)
    assert [sent for _, _, sent in send_many(webhook, [(None, BATCH)])] == [Sent(accepted=5)]
    webhook.close()
    options = {name: "whsec_" + base64.b64encode(b"x" * 24).decode()}
    enough = Webhook(url=receiver.url, **options)
    enough.check()
    enough.close()


def test_a_secret_without_its_prefix_is_not_told_either(receiver: Receiver, webhook: Webhook) -> None:
    """Libraries strip whsec_ before they use it, and may show the rest."""
    receiver.script.append(Reply(403, b"bad key " + SECRET.removeprefix("whsec_").encode()))
    with pytest.raises(Blocked, match=r"bad key \[secret\]$"):
        send(BATCH, webhook.deliver, secrets=webhook.secret_values())


def test_a_409_to_a_batch_that_was_sent_before_is_no_dead_end(receiver: Receiver, webhook: Webhook) -> None:
    """The receiver refuses an id that it has: the batch counts as accepted, and no event is refused."""
    receiver.script.extend([ResetWhileAnswering(), *[Reply(409)] * 5])
    assert send(BATCH, webhook.deliver, sleep=lambda _: None).accepted == 5
    assert receiver.events() == BATCH.lines()


def test_which_fields_are_secret() -> None:
    """The deployment file may give these only as {env: NAME}."""
    assert secret_fields(Webhook) == {"client_key_password", "secret", "previous_secret", "secret_headers"}


def test_check_sends_nothing(receiver: Receiver, webhook: Webhook) -> None:
    """Connecting is enough to see that the receiver listens; it gets no request."""
    webhook.check()
    webhook.check_once()
    webhook.check_once()
    webhook.deliver(BATCH)
    assert len(receiver.requests) == 1
    assert receiver.connections == 3


def test_https_to_a_receiver_that_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events are sent over TLS if the certificate is trusted; otherwise nothing is sent and the error is reported."""
    receiver = Receiver(SECRET)
    receiver.tls, trusted = self_signed(tmp_path)
    with receiver:
        distrusting = Webhook(url=receiver.url, secret=SECRET)
        attempts: list[Callable[[], object]] = [distrusting.check, lambda: distrusting.deliver(BATCH)]
        for attempt in attempts:
            with pytest.raises(
                Blocked, match=r"^https://127\.0\.0\.1:\d+: its certificate is not trusted: self-signed"
            ):
                attempt()
        distrusting.close()
        assert receiver.requests == []
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
        webhook = Webhook(url=receiver.url, secret=SECRET)
        webhook.check()
        webhook.deliver(BATCH)
        webhook.close()
        assert receiver.taken == {BATCH.id: BATCH.data}


def test_a_url_from_the_environment(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """The URL may be a secret too: it is read when the run starts, checked then, and shown by its variable's name."""
    monkeypatch.setenv("HOOK_URL", f"{receiver.url}/s3cr3t-path?key=s3cr3t-key")
    webhook = Webhook(url=dagster.EnvVar("HOOK_URL"), secret=dagster.EnvVar("HOOK_SECRET"))
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    assert "HOOK_URL" in repr(webhook)
    assert webhook.secret_values() == ()
    running: Any = webhook.process_config_and_initialize_cm()
    with running as ready:
        ready.deliver(BATCH)
    assert receiver.taken == {BATCH.id: BATCH.data}
    monkeypatch.setenv("HOOK_URL", "http://example.com/s3cr3t-path")
    with pytest.raises(Exception, match="is not encrypted"), webhook.process_config_and_initialize_cm():
        pass


def test_check_finds_nobody() -> None:
    """check() fails where nobody listens."""
    webhook = Webhook(url="http://127.0.0.1:9/")
    with pytest.raises(TryLater, match=r"http://127\.0\.0\.1:9"):
        webhook.check()
    webhook.close()


@pytest.mark.parametrize("value", ["t0ken-with-a-line-feed\n", "t0ken-mit-Ümläut-✓"])
def test_a_header_that_http_cannot_carry_blocks_and_is_not_told(receiver: Receiver, value: str) -> None:
    """Such as a secret from a file that ends with a line feed: trying again does not help, and its text is a secret."""
    webhook = Webhook(url=receiver.url, secret=SECRET, secret_headers={"Authorization": value})
    with pytest.raises(Blocked, match="contains a character that HTTP does not allow, such as a line feed") as caught:
        webhook.deliver(BATCH)
    webhook.close()
    assert "t0ken" not in str(caught.value)


def test_a_proxy_of_the_environment_is_checked_and_used(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where only a proxy leads outside, check() asks whether that is there, and batches go through it."""
    monkeypatch.setenv("http_proxy", receiver.url)
    monkeypatch.setenv("no_proxy", "")
    webhook = Webhook(url="http://receiver.invalid/hook", secret=SECRET, allow_http=True, timeout_seconds=60)
    webhook.check()
    webhook.deliver(BATCH)
    assert receiver.requests[-1].target == "http://receiver.invalid/hook"
    monkeypatch.setenv("http_proxy", "http://me:pr0xy-password@127.0.0.1:9")
    with pytest.raises(TryLater, match=r"http://receiver\.invalid through the proxy http://127\.0\.0\.1:9: ") as caught:
        webhook.check()
    webhook.close()
    assert "pr0xy" not in str(caught.value)
