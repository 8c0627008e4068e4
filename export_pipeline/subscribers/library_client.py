"""Subscribers that use a library's client."""

import ssl
import threading
from abc import abstractmethod
from importlib import import_module
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import Field, PrivateAttr, field_validator

from export_pipeline.batching.batch import Receipt
from export_pipeline.errors import Blocked
from export_pipeline.subscribers.http_options import HttpOptions
from export_pipeline.subscribers.packing import Packed
from export_pipeline.subscribers.proxies import check_http_proxy, proxy_for
from export_pipeline.subscribers.requests import RequestSubscriber
from export_pipeline.subscribers.scrubbing import public_url
from export_pipeline.subscribers.worker import in_time


class LibraryClientSubscriber(HttpOptions, RequestSubscriber):
    """A RequestSubscriber whose client has timeouts of single reads only; this class adds one of the whole response.

    A subclass keeps its client in ``_client``, which it replaces under ``_opening``, and implements :meth:`send`
    and :meth:`ask`.
    """

    api_url: str = Field(description="Address of the server.")
    timeout_seconds: float = Field(default=60.0, gt=0, description="Timeout of one request, in seconds.")
    _client: Any = PrivateAttr(default=None)
    _opening: Any = PrivateAttr(default_factory=threading.Lock)

    @field_validator("proxy_url", mode="after")
    @classmethod
    def _proxy_is_of_http(cls, value: str | None) -> str | None:
        if value is not None:
            check_http_proxy(value)
        return value

    @abstractmethod
    def send(self, request: Packed) -> Receipt | None:
        """Like :meth:`post`, without a timeout."""

    @abstractmethod
    def ask(self) -> None:
        """Like :meth:`check`, without a timeout."""

    def post(self, request: Packed) -> Receipt | None:
        """Like :meth:`RequestSubscriber.post`; TryLater if the response is not complete after ``timeout_seconds``."""
        self._import()
        return in_time(lambda: self.send(request), timeout_seconds=self.timeout_seconds, place=self._place)

    def check(self) -> None:
        """Connect to the server; TryLater if the response is not complete after ``timeout_seconds``."""
        self._import()
        in_time(self.ask, timeout_seconds=self.timeout_seconds, place=self._place)

    def _import(self) -> None:
        """Import the library before the timeout of a request starts: the first import takes a second or two."""
        for name in self.needs:
            import_module(name)

    def close(self) -> None:
        """Close the connections."""
        with self._opening:
            if self._client is not None:
                self._client.close()
            self._client = None

    @property
    def proxy(self) -> str | None:
        """The proxy for the server, if any.

        Raises:
            Blocked: the environment's proxy is one that the libraries cannot use.
        """
        proxy = proxy_for(self.api_url, self.proxy_url)
        try:
            return proxy and check_http_proxy(proxy)
        except ValueError as error:
            raise Blocked(f"{self._place}: the environment's proxy: {error}") from None

    @property
    def _place(self) -> str:
        return public_url(self.api_url, path=False)


def proxy_manager(proxy: str, tls: ssl.SSLContext, connections: int) -> Any:
    """urllib3's manager of *connections* connections through *proxy*; urllib3 does not use its user and password."""
    from urllib3 import ProxyManager

    return ProxyManager(
        proxy, proxy_headers=proxy_headers(proxy), proxy_ssl_context=tls, ssl_context=tls, maxsize=connections
    )


def proxy_headers(proxy: str) -> dict[str, str] | None:
    """The header for the user and password in the URL of *proxy*, if there are any."""
    from urllib3 import make_headers

    parts = urlsplit(proxy)
    if parts.username is None:
        return None
    return dict(make_headers(proxy_basic_auth=f"{unquote(parts.username)}:{unquote(parts.password or '')}"))
