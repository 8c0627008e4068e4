"""The HTTP client of all HTTP subscribers: sends requests, and classifies responses."""

import ipaddress
import json
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

from export_pipeline.errors import Blocked, DeliveryError, Refused, TryLater
from export_pipeline.subscribers.connections import Connections
from export_pipeline.subscribers.networks import Watch, check_address
from export_pipeline.subscribers.proxies import check_proxy, proxy_for
from export_pipeline.subscribers.scrubbing import excerpt, public_url, scrub

if TYPE_CHECKING:
    import httpx2

# The status codes of docs/subscribers.md; 425 and 429 are from RFC 8470 and RFC 6585.
TRY_LATER = frozenset({408, 425, 429})
REFUSED = frozenset({400, 413, 422})

MAX_ANSWER_BYTES = 16 * 1024 * 1024
DIRECT = Connections()
_SHORTEST_HIDDEN_PATH = 8
_DEFAULT_PORTS = {"http": 80, "https": 443}
USER_AGENT = "export-pipeline"


@dataclass(frozen=True, slots=True)
class Answer:
    """The response of a destination.

    Attributes:
        url: of the request, without credentials, path and query.
        status: HTTP status.
        headers: with names in lower case.
        body: as received; at most 16 MiB of it.
        secrets: values that a destination may echo and :meth:`told` must not show.
    """

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes
    secrets: tuple[str, ...] = field(default=(), repr=False)

    def told(self) -> str:
        """The response for a log: URL, status and the first 500 bytes, without secrets."""
        said = self.said()
        return f"{self.url} answered {self.status}" + (f": {said}" if said else "")

    def said(self) -> str:
        """The first 500 bytes of the body, on one line, without secrets."""
        return excerpt(scrub(self.body[:100_000].decode("utf-8", "replace"), self.secrets).encode())

    def fields(self) -> dict[str, Any]:
        """The members of the body, if it is a JSON object; otherwise none."""
        try:
            found: Any = json.loads(self.body)
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}


def _told_paths(url: "httpx2.URL") -> list[str]:
    """The forms in which a destination may echo the path of the request, which often contains a token."""
    asked, path = url.raw_path.decode("ascii"), url.path
    return [text for text in dict.fromkeys((asked, path)) if len(text) >= _SHORTEST_HIDDEN_PATH]


class HttpClient:
    """httpx2 clients, one for each route to a server, opened at first use. Thread-safe.

    Redirects are never followed.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clients: dict[tuple[Connections, str | None], httpx2.Client] = {}

    def send(
        self,
        method: str,
        url: str,
        *,
        timeout_seconds: float,
        content: bytes = b"",
        headers: Mapping[str, str] | None = None,
        auth: tuple[str, str] | None = None,
        secrets: tuple[str, ...] = (),
        connections: Connections = DIRECT,
    ) -> Answer:
        """Send one request and read the response, whatever its status.

        Args:
            method: such as ``POST``.
            url: ``http://`` or ``https://``; user and password in it become basic authentication.
            timeout_seconds: for connecting, for each piece of the request, and for the whole response: its head,
                earlier 1xx responses, and its body.
            content: the body.
            headers: in addition to User-Agent and Accept-Encoding.
            auth: user and password.
            secrets: values that the destination may echo and no text may contain.
            connections: how the server is reached.

        Raises:
            TryLater: no response, or an incomplete one.
            Blocked: the URL or the proxy's URL is invalid, ``networks`` does not allow the address, or a certificate is
                not trusted or cannot be read.
        """
        import httpx2

        place = public_url(url, path=False)
        client = self._open(url, connections)
        try:
            # A compressed response could expand to any size, and none here is worth compressing.
            request = client.build_request(
                method,
                url,
                content=content,
                headers={"user-agent": USER_AGENT, "accept-encoding": "identity", **(headers or {})},
                timeout=timeout_seconds,
                extensions={"trace": Watch(httpx2.URL(url).raw_host, place, connections.networks)},
            )
            response = client.send(request, stream=True, auth=auth or httpx2.USE_CLIENT_DEFAULT)
            try:
                body = _read(response)
            finally:
                response.close()
        except httpx2.TimeoutException as error:
            sent = not isinstance(error, httpx2.ConnectTimeout | httpx2.PoolTimeout)
            raise TryLater(f"{place} did not answer within {timeout_seconds:g} s", may_have_arrived=sent) from None
        except (httpx2.UnsupportedProtocol, httpx2.InvalidURL):
            raise Blocked(f"{place} is not a valid HTTP address") from None
        except (httpx2.LocalProtocolError, UnicodeEncodeError):
            # The error's text would quote the header, which may be a secret.
            raise Blocked(
                f"{place}: a header's name or value contains a character that HTTP does not allow, such as a line feed"
            ) from None
        except httpx2.TransportError as error:
            if distrust := find_distrust(error):
                raise Blocked(f"{place}: its certificate is not trusted: {distrust.verify_message}") from None
            sent = not isinstance(error, httpx2.ConnectError | httpx2.ProxyError)
            raise TryLater(f"{place}: {_cause(error)}", may_have_arrived=sent) from None
        answered = {name.lower(): value for name, value in response.headers.items()}
        return Answer(place, response.status_code, answered, body, (*secrets, *_told_paths(request.url)))

    def connect(self, url: str, *, timeout_seconds: float, connections: Connections = DIRECT) -> None:
        """Check that the server accepts connections and its certificate is trusted; sends no request.

        With a proxy, checks that the proxy accepts connections.

        Raises:
            TryLater: it does not.
            Blocked: as for :meth:`send`.
        """
        self._open(url, connections)
        proxy = proxy_for(url, connections.proxy_url)
        parts = urlsplit(proxy or url)
        place = public_url(url, path=False) + (f" through the proxy {public_url(proxy, path=False)}" if proxy else "")
        address = (parts.hostname or "", parts.port or _DEFAULT_PORTS.get(parts.scheme, 1080))
        try:
            with socket.create_connection(address, timeout_seconds) as plain:
                if proxy is None:
                    check_address(place, plain.getpeername()[0], connections.networks)
                if parts.scheme == "https" and proxy is None:
                    with connections.tls().wrap_socket(plain, server_hostname=parts.hostname):
                        pass
        except ssl.SSLCertVerificationError as error:
            raise Blocked(f"{place}: its certificate is not trusted: {error.verify_message}") from None
        except OSError as error:
            raise TryLater(f"{place}: {_cause(error)}") from None

    def close(self) -> None:
        """Close all connections; the next request opens new ones."""
        with self._lock:
            for client in self._clients.values():
                client.close()
            self._clients.clear()

    def _open(self, url: str, connections: Connections) -> "httpx2.Client":
        import httpx2

        from export_pipeline.subscribers.transport import DeadlineTransport

        proxy = proxy_for(url, connections.proxy_url)
        with self._lock:
            client = self._clients.get((connections, proxy))
            if client is None:
                try:
                    if proxy is not None:
                        check_proxy(proxy)
                    transport = DeadlineTransport(connections.shared_tls(), proxy)
                except (ValueError, httpx2.InvalidURL) as error:
                    raise Blocked(f"{public_url(url, path=False)}: the environment's proxy: {error}") from None
                client = httpx2.Client(transport=transport, trust_env=False, follow_redirects=False)
                self._clients[connections, proxy] = client
            return client


def _read(response: "httpx2.Response") -> bytes:
    """The first 16 MiB of the response's body."""
    pieces: list[bytes] = []
    size = 0
    for piece in response.iter_raw():
        pieces.append(piece)
        size += len(piece)
        if size >= MAX_ANSWER_BYTES:
            break
    return b"".join(pieces)[:MAX_ANSWER_BYTES]


def find_distrust(error: BaseException | None) -> ssl.SSLCertVerificationError | None:
    """The certificate error that caused *error*, if one did."""
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return error


def _cause(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def accept(answer: Answer) -> Answer:
    """*answer*, if it is a 2xx.

    Raises:
        TryLater: 408, 425, 429, 5xx; with the pause that Retry-After requests.
        Refused: 400, 413, 422.
        Blocked: all else: 401, 403, 404, 410, redirects, …
    """
    if not 200 <= answer.status < 300:
        raise_for(answer)
    return answer


def accept_saying(answer: Answer, expected: str, is_said: Callable[[Mapping[str, Any]], bool]) -> Answer:
    """*answer*, if it is a 2xx, and its body is the one with which the API confirms that it took the events.

    A login page, a proxy or another service at the same address answers 200 to anything.

    Args:
        expected: what the body should contain, in words.
        is_said: whether the members of the body do.

    Raises:
        TryLater, Refused, Blocked: as for :func:`accept`.
        Blocked: also if the body is another one.
    """
    accept(answer)
    if not is_said(answer.fields()):
        raise Blocked(
            f"{answer.told()}; expected {expected}. The events may not have been taken: check the address, and what is "
            "between here and there",
            status=answer.status,
            answer=answer.said(),
        )
    return answer


def raise_for(answer: Answer) -> NoReturn:
    """Raise the error that *answer*, which is not a 2xx, means."""
    if 300 <= answer.status < 400:
        target = answer.headers.get("location")
        where = public_url(target) if target else "nowhere"
        text = f"{answer.url} answered {answer.status} and redirected to {where}; redirects are not followed"
        raise Blocked(text, status=answer.status)
    asked = retry_after_seconds(answer.headers.get("retry-after"))
    raise of_status(answer.status, answer.told(), asked_seconds=asked, answer=answer.said())


def of_status(status: int, reason: str, *, asked_seconds: float | None = None, answer: str = "") -> DeliveryError:
    """The error that *status*, which is not a 2xx, means, with *reason*, the requested pause, and the response."""
    if status in TRY_LATER or status >= 500 or status < 200:  # below 200 the final response is still to come
        return TryLater(reason, retry_after_seconds=asked_seconds, status=status, answer=answer)
    return (Refused if status in REFUSED else Blocked)(reason, status=status, answer=answer)


def retry_after_seconds(value: str | None, *, now: datetime | None = None) -> float | None:
    """The seconds that a Retry-After header requests, as a number or an HTTP date (RFC 9110, 10.2.3); None: neither."""
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.replace(".", "", 1).isdigit():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError):  # a year or a time zone out of datetime's range
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return max(0.0, (moment - (now or datetime.now(timezone.utc))).total_seconds())


def is_loopback(url: str) -> bool:
    """Whether the host of *url* is this machine."""
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_url(url: str, *, allow_http: bool = False) -> str:
    """*url*, if events may be sent there.

    Raises:
        ValueError: not an http(s) URL, or unencrypted to another machine.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{public_url(url)!r} is not an http:// or https:// URL")
    if parts.scheme == "http" and not allow_http and not is_loopback(url):
        raise ValueError(f"{public_url(url)} is not encrypted: use https://, or set allow_http: true")
    return url
