"""Where a webhook and an HTTP subscriber send to, and where they do not, whatever a name is said to mean."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

from export_pipeline.errors import Blocked, TryLater
from export_pipeline.subscribers.base import Subscriber
from export_pipeline.subscribers.http import Http
from export_pipeline.subscribers.networks import Networks, Watch, refusal
from export_pipeline.subscribers.webhook import Webhook
from export_pipeline.testing import batch_of, sample_event
from export_pipeline_tests.servers.http import Reply
from export_pipeline_tests.servers.receiver import Receiver

BATCH = batch_of([sample_event(n) for n in range(3)])
LOGIN = {"Authorization": "Bearer t0ken-t0ken"}
METADATA = ["169.254.169.254", "169.254.170.2", "169.254.170.23", "fe80::1", "fe80::1%lo", "fd00:ec2::254"]
METADATA += ["fd00:ec2::23", "fd20:ce::254", "100.100.100.200", "168.63.129.16", "192.0.0.192"]
METADATA += ["::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::"]
NOBODY = ["0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255", "240.0.0.1", "::ffff:0.0.0.0"]
INSIDE = ["127.0.0.1", "127.9.9.9", "::1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "fd12:3456::1", "100.64.0.1"]
INSIDE += ["fec0::1", "192.0.0.8", "3fff::1"]
INSIDE += ["::ffff:10.0.0.1", "64:ff9b::a00:1"]
OUTSIDE = ["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946", "64:ff9b::5db8:d822"]


@pytest.mark.parametrize(
    ("addresses", "allowed_by"),
    [
        (METADATA, {"any"}),
        (NOBODY, {"any"}),
        (INSIDE, {"any", "private"}),
        (OUTSIDE, {"any", "private", "public"}),
    ],
)
def test_which_addresses_are_allowed(addresses: list[str], allowed_by: set[str]) -> None:
    """Metadata services and addresses of no machine need any, private ones private; IPv4 inside of IPv6 counts."""
    every: tuple[Networks, ...] = ("public", "private", "any")
    found = {address: {networks for networks in every if not refusal(address, networks)} for address in addresses}
    assert found == dict.fromkeys(addresses, allowed_by)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver(None) as running:
        yield running


def subscriber(kind: str, url: str, networks: Networks) -> Any:
    make: Any = {"webhook": Webhook, "http": Http}[kind]
    return make(url=url, networks=networks, allow_http=True, secret_headers=LOGIN, timeout_seconds=60)


def resolve_to(monkeypatch: pytest.MonkeyPatch, *answers: str) -> list[str]:
    """Answer the questions for ``rebinding.test`` one after the other, the last answer for ever; as such a DNS does."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def answer(host: Any, port: Any, *more: Any, **named: Any) -> Any:
        if host != "rebinding.test":
            return real(host, port, *more, **named)
        asked.append(host)
        return real(answers[min(len(asked), len(answers)) - 1], port, *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    return asked


@pytest.mark.parametrize("kind", ["webhook", "http"])
@pytest.mark.parametrize("answers", [["127.0.0.1"], ["93.184.216.34", "127.0.0.1"]])
def test_a_name_that_leads_inside(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, kind: str, answers: list[str]
) -> None:
    """With networks: public nothing is sent to a name that turns out to be of this machine, whenever it does so: what
    counts is where the connection leads, not what the name was said to mean before.
    """
    asked = resolve_to(monkeypatch, *answers)
    url = receiver.url.replace("127.0.0.1", "rebinding.test")
    if len(answers) > 1:  # somebody looks first, and is told something harmless
        socket.getaddrinfo("rebinding.test", 80)
    made = subscriber(kind, url, "public")
    with pytest.raises(Blocked, match=r"rebinding\.test:\d+ has the address 127\.0\.0\.1, which is not an internet"):
        made.deliver(BATCH)
    with pytest.raises(Blocked, match=r"has the address 127\.0\.0\.1"):
        made.check()
    made.close()
    assert len(asked) >= len(answers)
    assert receiver.requests == []


@pytest.mark.parametrize("kind", ["webhook", "http"])
def test_a_receiver_of_ones_own_is_allowed(receiver: Receiver, kind: str) -> None:
    """By default a receiver may be on this machine or in a private network, where many are."""
    receiver.standing = Reply(204)
    make: Any = {"webhook": Webhook, "http": Http}[kind]
    made: Subscriber = make(url=receiver.url)
    made.deliver(BATCH)
    made.check()
    made.close()
    assert len(receiver.requests) == 1


def test_the_address_is_looked_at_once_a_connection(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that is kept goes where it went, whatever the name means by now."""
    asked = resolve_to(monkeypatch, "127.0.0.1", "169.254.169.254")
    made = subscriber("webhook", receiver.url.replace("127.0.0.1", "rebinding.test"), "private")
    for _ in range(3):
        made.deliver(BATCH)
    made.close()
    assert (len(asked), receiver.connections) == (1, 1)


def test_a_proxy_may_be_anywhere(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of the environment is trusted with the choice of addresses: its address says nothing of the receiver."""
    monkeypatch.setenv("http_proxy", receiver.url)
    monkeypatch.setenv("no_proxy", "")
    made = subscriber("webhook", "http://receiver.invalid/hook", "public")
    made.deliver(BATCH)
    made.check()
    made.close()
    assert receiver.requests[-1].target == "http://receiver.invalid/hook"


@pytest.mark.parametrize("kind", ["webhook", "http"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_brings_no_credential_anywhere(receiver: Receiver, kind: str, status: int) -> None:
    """Where a receiver points elsewhere, nobody there is asked for anything."""
    with Receiver(None) as elsewhere:
        receiver.standing = Reply(status, headers={"location": f"{elsewhere.url}/latest/meta-data/"})
        made = subscriber(kind, receiver.url, "private")
        with pytest.raises(Blocked, match="redirects are not followed"):
            made.deliver(BATCH)
        made.close()
        assert elsewhere.connections == 0


class Stream:
    """A connection to a host that no test can reach."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.is_closed = False

    def get_extra_info(self, name: str) -> Any:
        return {"server_addr": (self.address, 80)}[name]

    def close(self) -> None:
        self.is_closed = True


@pytest.mark.parametrize("address", METADATA)
def test_a_connection_to_a_metadata_service_is_closed(address: str) -> None:
    """The connection that httpx2 has just opened is closed before anything is sent over it."""
    watch, stream = Watch(b"metadata.example", "http://metadata.example", "private"), Stream(address)
    watch("connection.connect_tcp.started", {"host": "metadata.example", "port": 80})
    with pytest.raises(Blocked, match="clouds give credentials"):
        watch("connection.connect_tcp.complete", {"return_value": stream})
    assert stream.is_closed


_IN_A_NETWORK_OF_ITS_OWN = """
import subprocess, sys
for command in ("link set lo up", "addr add 169.254.169.254/32 dev lo"):
    subprocess.run(["ip", *command.split()], check=True)
from http.server import HTTPServer, BaseHTTPRequestHandler
from threading import Thread
seen = []
class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        seen.append(self.path)
        self.send_response(200)
        self.end_headers()
    def log_message(self, *args): pass
server = HTTPServer(("169.254.169.254", 80), Handler)
Thread(target=server.serve_forever, daemon=True).start()
from export_pipeline.errors import Blocked
from export_pipeline.subscribers.webhook import Webhook
from export_pipeline.testing import batch_of, sample_event
batch = batch_of([sample_event(1)])
for networks in ("private", "public", "any"):
    hook = Webhook(url="http://169.254.169.254/latest", allow_http=True, networks=networks)
    try:
        hook.deliver(batch)
    except Blocked as error:
        print(networks, error)
    hook.close()
    print(networks, len(seen))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="network namespaces are Linux's")
def test_a_real_metadata_address(tmp_path: Path) -> None:
    """In a separate network in which 169.254.169.254 answers, only networks: any sends there."""
    command = ["unshare", "--user", "--map-root-user", "--net", "--", sys.executable, "-c", _IN_A_NETWORK_OF_ITS_OWN]
    allowed = subprocess.run([*command[:5], "ip", "link"], capture_output=True, check=False)
    if allowed.returncode != 0:
        pytest.skip("this system gives nobody a network of its own: unshare --user --net")
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("private http://169.254.169.254 has the address 169.254.169.254, which is one at which")
    assert lines[2].startswith("public http://169.254.169.254 has the address")
    assert [lines[1], lines[3], lines[4]] == ["private 0", "public 0", "any 1"]


def test_nobody_listens_is_no_refusal() -> None:
    """An allowed address where nothing listens is retried later, as usual."""
    made = subscriber("webhook", "http://127.0.0.1:9/", "private")
    with pytest.raises(TryLater):
        made.deliver(BATCH)
    made.close()


def test_every_network_is_an_option(receiver: Receiver) -> None:
    """The option has the three values that the page tells of, and refuses others."""
    names: tuple[Literal["public", "private", "any"], ...] = ("public", "private", "any")
    for name in names:
        assert Webhook(url="https://example.com", networks=name).networks == name
    with pytest.raises(ValueError, match="networks"):
        Webhook.model_validate({"url": "https://example.com", "networks": "none"})
