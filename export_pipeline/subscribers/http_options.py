"""The options of every HTTP destination: address, timeout, proxy, certificates."""

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from dagster import EnvVar
from pydantic import Field, PrivateAttr, ValidationInfo, field_validator, model_validator
from typing_extensions import Self

from export_pipeline.errors import TryLater
from export_pipeline.subscribers.base import SECRET, Subscriber
from export_pipeline.subscribers.connections import Connections
from export_pipeline.subscribers.http_client import (
    TRY_LATER,
    Answer,
    HttpClient,
    accept,
    check_url,
    retry_after_seconds,
)
from export_pipeline.subscribers.networks import DESCRIPTION, Networks
from export_pipeline.subscribers.proxies import check_proxy

CONFLICT = 409
CONFLICTS_OF_ACCEPTED = 3
"""After this many in a row, with pauses between them, a request whose response was lost is no longer in progress."""


class ConnectionOptions(Subscriber):
    """How a server is reached."""

    proxy_url: str | None = Field(
        default=None,
        description="Proxy to use: http://…, https://… or socks5://…, with user and password if it needs them. By "
        "default that of the environment (https_proxy, http_proxy, all_proxy), except for the hosts, domains, "
        "addresses and address ranges in no_proxy.",
        examples=["http://proxy.example.com:3128"],
    )
    ca_file: str | None = Field(
        default=None,
        description="File with the certificate authorities to trust (PEM). By default those of the operating system, "
        "or of the file or directory named by the variable SSL_CERT_FILE or SSL_CERT_DIR.",
        examples=["/etc/ssl/example-ca.pem"],
    )
    client_cert_file: str | None = Field(
        default=None,
        description="File with the client certificate for mutual TLS (PEM), its chain included.",
        examples=["/run/secrets/client.pem"],
    )
    client_key_file: str | None = Field(
        default=None, description="File with the key of that certificate (PEM), if it is not in the same file."
    )
    client_key_password: str | None = Field(
        default=None, description="Password of that key, if it is encrypted.", json_schema_extra=SECRET
    )

    @field_validator("proxy_url", mode="before")
    @classmethod
    def _check_proxy(cls, value: object) -> object:
        return check_proxy(value) if isinstance(value, str) and not isinstance(value, EnvVar) else value

    @model_validator(mode="after")
    def _certificate_is_whole(self) -> Self:
        if self.client_cert_file is None and (self.client_key_file or self.client_key_password):
            raise ValueError("client_key_file and client_key_password go with client_cert_file, which is missing")
        return self

    @property
    def connections(self) -> Connections:
        """The settings with which connections are opened."""
        return Connections(
            proxy_url=self.proxy_url,
            ca_file=self.ca_file,
            client_cert_file=self.client_cert_file,
            client_key_file=self.client_key_file,
            client_key_password=self.client_key_password,
        )


class HttpOptions(ConnectionOptions):
    """The options of a destination whose address is ``url`` or ``api_url``; http needs ``allow_http``, or this host."""

    allow_http: bool = Field(default=False, description="Allow sending unencrypted (http://) to other machines.")
    timeout_seconds: float = Field(
        default=30.0,
        gt=0,
        description="Timeout of connecting, of each piece of the request, and of the whole response, in seconds.",
    )

    @field_validator("url", "api_url", mode="before", check_fields=False)
    @classmethod
    def _check_url(cls, value: object, info: ValidationInfo) -> object:
        if isinstance(value, str) and not isinstance(value, EnvVar):
            return check_url(value, allow_http=bool(info.data.get("allow_http")))
        return value


class HttpClientOptions(HttpOptions):
    """The options of a destination that uses the :class:`HttpClient` ``_http``."""

    networks: Networks = Field(default="private", description=DESCRIPTION)
    _http: HttpClient = PrivateAttr(default_factory=HttpClient)

    @property
    def connections(self) -> Connections:
        """The settings with which connections are opened."""
        return replace(super().connections, networks=self.networks)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


class IdempotentOptions(HttpClientOptions):
    """The options of a destination that receives the id of each request; the same events always have the same id."""

    conflict: Literal["retry", "accepted"] = Field(
        default="retry",
        description="What a 409 means. retry: the first request with this id may still be in progress, so it is "
        "retried; if the response to the first one was lost in this run, the third 409 in a row counts as accepted. "
        "accepted: the API returns 409 for ids that it has already accepted.",
    )
    _conflicts: dict[str, int] = PrivateAttr(default_factory=dict)

    def settle(self, request_id: str, send: Callable[[], Answer]) -> Answer | None:
        """The response to a request, which is a 2xx; None if a 409 means that it was accepted before.

        Args:
            request_id: the id under which the destination knows the request.
            send: sends it.

        Raises:
            TryLater, Blocked, Refused: according to the response.
        """
        try:
            answer = send()
        except TryLater as error:
            if error.may_have_arrived:
                self._conflicts[request_id] = 0
            raise
        if answer.status != CONFLICT:
            if request_id in self._conflicts and (answer.status in TRY_LATER or answer.status >= 500):
                self._conflicts[request_id] = 0  # only conflicts in a row count
            else:
                self._conflicts.pop(request_id, None)
            return accept(answer)
        count = self._conflicts.get(request_id)
        if count is not None:
            self._conflicts[request_id] = count = count + 1
        if self.conflict == "accepted" or count == CONFLICTS_OF_ACCEPTED:
            self._conflicts.pop(request_id, None)
            return None
        raise TryLater(
            f"{answer.told()}; if this means that it already has these events, set conflict: accepted",
            retry_after_seconds=retry_after_seconds(answer.headers.get("retry-after")),
            status=answer.status,
            answer=answer.said(),
        )
