"""How servers are reached, at every destination over HTTP: proxies, certificates, the deadline of an answer."""

import re
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from pydantic import ValidationError

from export_pipeline.errors import Blocked, TryLater
from export_pipeline.subscribers.amplitude import Amplitude
from export_pipeline.subscribers.base import Subscriber
from export_pipeline.subscribers.clickhouse import Clickhouse
from export_pipeline.subscribers.connections import Connections
from export_pipeline.subscribers.firehose import Firehose
from export_pipeline.subscribers.http import Http
from export_pipeline.subscribers.http_options import ConnectionOptions
from export_pipeline.subscribers.kinesis import Kinesis
from export_pipeline.subscribers.mixpanel import Mixpanel
from export_pipeline.subscribers.opensearch import Opensearch
from export_pipeline.subscribers.posthog import Posthog
from export_pipeline.subscribers.proxies import proxy_for
from export_pipeline.subscribers.registry import known_types, resolve
from export_pipeline.subscribers.segment import Segment
from export_pipeline.subscribers.sqs import Sqs
from export_pipeline.subscribers.webhook import Webhook
from export_pipeline.testing import batch_of, sample_event
from export_pipeline_tests.servers.certificate import self_signed
from export_pipeline_tests.servers.http import DripBefore, Reply, Request, Server
from export_pipeline_tests.servers.proxy import Proxy

BATCH = batch_of([sample_event(0)])
AWS: dict[str, Any] = {
    "region_name": "eu-central-1",
    "aws_access_key_id": "AKIDEXAMPLE1",
    "aws_secret_access_key": "s3cr3t-access-key",
}

Make = Callable[..., ConnectionOptions]
KINDS: dict[str, Make] = {
    "amplitude": lambda url, **more: Amplitude(api_key="k3y-of-ours", api_url=url, allow_http=True, **more),
    "clickhouse": lambda url, **more: Clickhouse(api_url=url, allow_http=True, table="t", **more),
    "firehose": lambda url, **more: Firehose(stream_name="s", **{**AWS, "endpoint_url": url}, **more),
    "http": lambda url, **more: Http(url=url, allow_http=True, **more),
    "kinesis": lambda url, **more: Kinesis(stream_name="s", **{**AWS, "endpoint_url": url}, **more),
    "mixpanel": lambda url, **more: Mixpanel(token="t0ken-of-ours", api_url=url, allow_http=True, **more),
    "opensearch": lambda url, **more: Opensearch(api_url=url, allow_http=True, **more),
    "posthog": lambda url, **more: Posthog(api_key="k3y-of-ours", api_url=url, allow_http=True, **more),
    "segment": lambda url, **more: Segment(write_key="k3y-of-ours", api_url=url, allow_http=True, **more),
    "sqs": lambda url, **more: Sqs(queue_url=f"{url}/1/q", **{**AWS, "endpoint_url": url}, **more),
    "webhook": lambda url, **more: Webhook(url=url, allow_http=True, **more),
}
OF_LIBRARIES = ("clickhouse", "firehose", "kinesis", "opensearch", "sqs")


class Anything(Server):
    """Says 401 to whatever comes: that it was asked is all that is looked at."""

    def answer(self, request: Request) -> Reply:
        return Reply(401, b"{}", {"content-type": "application/json"})


def outcome(subscriber: Subscriber) -> Exception:
    """What delivering a batch raises."""
    with pytest.raises((Blocked, TryLater)) as caught:
        subscriber.deliver(BATCH)
    subscriber.close()
    return caught.value


@pytest.fixture
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without proxies."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        for spelling in (name, name.upper()):
            monkeypatch.delenv(spelling, raising=False)


@pytest.mark.parametrize("kind", KINDS)
def test_a_certificate_file_that_is_missing_or_none_blocks_at_once(kind: str, tmp_path: Path) -> None:
    """Trying again would not help: the error names the option, the file, and what is wrong with it."""
    (tmp_path / "none.pem").write_text("no certificate")
    url = "https://127.0.0.1:9"
    for options, words in (
        ({"ca_file": "/nowhere/ca.pem"}, r"ca_file /nowhere/ca\.pem: cannot be read: No such file"),
        ({"ca_file": str(tmp_path / "none.pem")}, "found no certificate authorities"),
        ({"client_cert_file": "/nowhere/c.pem"}, r"client_cert_file /nowhere/c\.pem: cannot be read: No such file"),
        (
            {"client_cert_file": str(tmp_path / "none.pem")},
            r"client_cert_file .*: found no certificate and key",
        ),
    ):
        error = outcome(KINDS[kind](url, **options))
        assert isinstance(error, Blocked), error
        assert re.search(words, str(error)), error


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("firehose", "kinesis", "sqs")])
def test_a_ca_file_of_the_environment_that_is_missing_blocks(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """SSL_CERT_FILE is read as by OpenSSL, and named where it cannot be."""
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/ca.pem")
    error = outcome(KINDS[kind]("https://127.0.0.1:9"))
    assert isinstance(error, Blocked)
    assert "SSL_CERT_FILE: cannot be read: No such file" in str(error)


def test_the_authorities_of_the_system_are_read_again_when_they_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Subscribers share what was read, until the file is another one; a client certificate is never shared."""
    authorities = tmp_path / "ca.pem"
    monkeypatch.setenv("SSL_CERT_FILE", str(authorities))
    trustme.CA().cert_pem.write_to_path(str(authorities))
    first = Connections().shared_tls()
    assert Connections(proxy_url="http://127.0.0.1:1").shared_tls() is first
    assert Connections(ca_file=str(authorities)).shared_tls() is not first
    replaced = trustme.CA()
    replaced.cert_pem.write_to_path(str(tmp_path / "new.pem"))
    (tmp_path / "new.pem").replace(authorities)
    second = Connections().shared_tls()
    assert second is not first
    assert second.get_ca_certs(binary_form=True) != first.get_ca_certs(binary_form=True)
    client = replaced.issue_cert("client")
    client.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "client.pem"))
    assert Connections(client_cert_file=str(tmp_path / "client.pem")).shared_tls() is not second


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_asks_for_a_certificate_gets_it(kind: str, tmp_path: Path) -> None:
    """Mutual TLS: with the certificate the server is reached, without it the connection ends."""
    server = Anything()
    server.tls, trusted = self_signed(tmp_path)
    authority = trustme.CA()
    authority.configure_trust(server.tls)
    server.tls.verify_mode = ssl.CERT_REQUIRED
    issued = authority.issue_cert("exporter.example.com")
    cert, key = tmp_path / "client.pem", tmp_path / "client.key"
    cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(str(key))
    with server:
        options: dict[str, Any] = {"ca_file": str(trusted), "timeout_seconds": 60}
        without = outcome(KINDS[kind](server.url, **options))
        assert isinstance(without, TryLater), without
        assert server.requests == []
        shown = outcome(KINDS[kind](server.url, client_cert_file=str(cert), client_key_file=str(key), **options))
        assert isinstance(shown, Blocked), shown
        assert server.requests != []


def test_an_encrypted_key_is_opened_with_its_password(tmp_path: Path) -> None:
    """A wrong password blocks, and nobody is asked at a terminal."""
    from cryptography.hazmat.primitives import serialization

    issued = trustme.CA().issue_cert("exporter.example.com")
    plain = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
    (tmp_path / "key.pem").write_bytes(
        plain.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"p4ssw0rd-of-key"),
        )
    )
    issued.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    options: dict[str, Any] = {
        "client_cert_file": str(tmp_path / "cert.pem"),
        "client_key_file": str(tmp_path / "key.pem"),
    }
    for password in (None, "wr0ng-password"):
        error = outcome(Webhook(url="https://127.0.0.1:9", client_key_password=password, **options))
        assert isinstance(error, Blocked)
        assert "wr0ng" not in str(error)
    error = outcome(Webhook(url="https://127.0.0.1:9", client_key_password="p4ssw0rd-of-key", **options))
    assert isinstance(error, TryLater)


@pytest.mark.parametrize("kind", KINDS)
def test_requests_go_through_the_proxy_of_the_deployment(kind: str, no_proxies: None) -> None:
    """With its credentials, and to a host that only the proxy knows."""
    with Anything() as server, Proxy(server.url) as proxy:
        address = f"http://me:pr0xy%2Fw0rd@{proxy.address}"
        error = outcome(KINDS[kind]("http://receiver.invalid:8080", proxy_url=address, timeout_seconds=60))
        assert isinstance(error, Blocked), error
        assert "receiver.invalid" in proxy.asked[0][0]
        assert proxy.asked[0][1] == "me:pr0xy/w0rd"
        assert "pr0xy" not in str(error)
        assert len(server.requests) == 1


@pytest.mark.parametrize("kind", ["webhook", "opensearch", "clickhouse", "kinesis"])
def test_https_goes_through_a_proxy_by_a_tunnel(kind: str, no_proxies: None, tmp_path: Path) -> None:
    """The proxy is asked to connect, and sees nothing of what goes through."""
    server = Anything()
    server.tls, trusted = self_signed(tmp_path)
    with server, Proxy(server.url) as proxy:
        error = outcome(
            KINDS[kind](
                "https://127.0.0.1:8443", proxy_url=f"http://{proxy.address}", ca_file=str(trusted), timeout_seconds=60
            )
        )
        assert isinstance(error, Blocked), error
        assert proxy.asked == [("127.0.0.1:8443", "")]
        assert len(server.requests) == 1


@pytest.mark.parametrize("way", ["option", "environment"])
def test_a_socks_proxy(way: str, no_proxies: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own client speaks SOCKS 5; the host's name is left to the proxy."""
    with Anything() as server, Proxy(server.url, socks=True) as proxy:
        options: dict[str, Any] = {}
        if way == "option":
            options["proxy_url"] = f"socks5://{proxy.address}"
        else:
            monkeypatch.setenv("ALL_PROXY", f"socks5h://{proxy.address}")
        subscriber = Webhook(url="http://receiver.invalid:8080", allow_http=True, timeout_seconds=60, **options)
        subscriber.check()
        error = outcome(subscriber)
        assert isinstance(error, Blocked)
        assert proxy.asked[-1] == ("receiver.invalid:8080", "")
        assert len(server.requests) == 1


@pytest.mark.parametrize("kind", OF_LIBRARIES)
def test_a_socks_proxy_that_a_client_does_not_speak_blocks(
    kind: str, no_proxies: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is reported when the deployment loads, and for the environment's at the first request: nothing bypasses it."""
    if kind in ("clickhouse", "opensearch"):
        with pytest.raises(ValidationError, match="is a SOCKS proxy; allowed for this destination: http"):
            KINDS[kind]("http://127.0.0.1:9", proxy_url="socks5://127.0.0.1:9")
    monkeypatch.setenv("all_proxy", "socks5://127.0.0.1:9")
    error = outcome(KINDS[kind]("http://127.0.0.2:9"))
    assert isinstance(error, Blocked), error
    assert "is a SOCKS proxy" in str(error)


@pytest.mark.parametrize("kind", KINDS)
def test_a_no_proxy_with_ranges_of_ipv6_is_read(kind: str, no_proxies: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as Kubernetes writes: what it names is reached straight, and it stops no request."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "fd00::/8,::1/128, [::1]:8080,10.0.0.0/8,127.0.0.0/8,.svc.cluster.local")
    with Anything() as server:
        error = outcome(KINDS[kind](server.url, timeout_seconds=60))
        assert isinstance(error, Blocked), error
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("url", "no_proxy", "is_direct"),
    [
        ("http://example.com", "example.com", True),
        ("http://a.example.com", "example.com", True),
        ("http://a.example.com", ".example.com", True),
        ("http://a.example.com", "*.example.com", True),
        ("http://notexample.com", "example.com", False),
        ("http://example.com", "a.example.com", False),
        ("http://EXAMPLE.com", "Example.COM", True),
        ("http://example.com:8080", "example.com:8080", True),
        ("http://example.com:8080", "example.com:80", False),
        ("http://example.com", "example.com:80", True),
        ("http://example.com", "*", True),
        ("http://10.1.2.3", "10.0.0.0/8", True),
        ("http://11.1.2.3", "10.0.0.0/8", False),
        ("http://[fd00::1]", "fd00::/8", True),
        ("http://[fe00::1]", "fd00::/8", False),
        ("http://[::1]:8080", "[::1]:8080", True),
        ("http://[::1]:8080", "::1", True),
        ("http://[::ffff:10.1.2.3]", "10.0.0.0/8", True),
        ("http://example.com", "10.0.0.0/8 fd00::/8\texample.com", True),
        ("http://example.com", "", False),
        ("http://example.com", ",/8,[,:,::/999,.", False),
    ],
)
def test_what_no_proxy_names(
    url: str, no_proxy: str, is_direct: bool, no_proxies: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hosts, domains, addresses and ranges of addresses, with ports; what is none of these names nothing."""
    monkeypatch.setenv("http_proxy", "proxy.example.com:3128")
    monkeypatch.setenv("no_proxy", no_proxy)
    assert proxy_for(url) == (None if is_direct else "http://proxy.example.com:3128")
    assert proxy_for(url, "http://own:1") == "http://own:1"


@pytest.mark.parametrize("proxy", ["ftp://127.0.0.1:9", "socks4://127.0.0.1:9", "http://"])
def test_a_proxy_that_is_none(proxy: str, no_proxies: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is reported when the deployment loads, and for the environment's at the first request."""
    with pytest.raises(ValidationError, match=r"is not a proxy; allowed: http://…"):
        Webhook(url="https://example.com", proxy_url=proxy)
    monkeypatch.setenv("https_proxy", proxy)
    assert isinstance(outcome(Webhook(url="https://example.com")), Blocked)


@pytest.mark.parametrize("what", ["head", "1xx"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_time_out_is_of_the_whole_answer(kind: str, what: str, no_proxies: None) -> None:
    """A server that sends its head byte by byte, or one 1xx after another, holds a request no longer than any other."""
    with Anything() as server:
        server.standing = DripBefore(what)
        error = outcome(KINDS[kind](server.url, timeout_seconds=0.5))
        assert isinstance(error, TryLater), error
        assert server.dripped < 200, "the server was read from for as long as it liked"


def test_every_destination_over_http_has_these_options() -> None:
    """A type whose address is a URL takes them from the one place where they are declared."""
    others = {"files", "kafka", "python", "warehouse"}
    kinds = {name: resolve(name) for name in known_types()}
    assert {name for name, kind in kinds.items() if not issubclass(kind, ConnectionOptions)} == others
    assert set(KINDS) == set(kinds) - others


def test_a_key_without_a_certificate_is_found_when_the_deployment_loads() -> None:
    """The error says what belongs together."""
    with pytest.raises(ValidationError, match="go with client_cert_file, which is missing"):
        Webhook(url="https://example.com", client_key_file="key.pem")
