"""The options of every destination over HTTP: address, time-out, proxy, certificates."""

from dataclasses import replace

from dagster import EnvVar
from pydantic import Field, PrivateAttr, ValidationInfo, field_validator, model_validator
from typing_extensions import Self

from export_pipeline.subscribers.base import SECRET, Subscriber
from export_pipeline.subscribers.connections import Connections
from export_pipeline.subscribers.http_client import HttpClient, check_url
from export_pipeline.subscribers.networks import DESCRIPTION, Networks
from export_pipeline.subscribers.proxies import check_proxy


class ConnectionOptions(Subscriber):
    """How a server is reached."""

    proxy_url: str | None = Field(
        default=None,
        description="Proxy to go through: http://…, https://… or socks5://…, with user and password where it asks for "
        "them. By default that of the environment (https_proxy, http_proxy, all_proxy), but for what no_proxy names: "
        "hosts, domains, addresses and ranges of addresses.",
        examples=["http://proxy.example.com:3128"],
    )
    ca_file: str | None = Field(
        default=None,
        description="File with the certificate authorities to trust (PEM), instead of the usual ones.",
        examples=["/etc/ssl/example-ca.pem"],
    )
    client_cert_file: str | None = Field(
        default=None,
        description="File with the certificate to show to the server (PEM, mutual TLS), its chain included.",
        examples=["/run/secrets/client.pem"],
    )
    client_key_file: str | None = Field(
        default=None, description="File with the key of that certificate (PEM), where it is not in the same file."
    )
    client_key_password: str | None = Field(
        default=None, description="Password of that key, where it is encrypted.", json_schema_extra=SECRET
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
        """What connections are opened with."""
        return Connections(
            proxy_url=self.proxy_url,
            ca_file=self.ca_file,
            client_cert_file=self.client_cert_file,
            client_key_file=self.client_key_file,
            client_key_password=self.client_key_password,
        )


class HttpOptions(ConnectionOptions):
    """A subclass has its address in ``url`` or ``api_url``: https, or http to this machine or where it is allowed."""

    allow_http: bool = Field(
        default=False, description="Send unencrypted (http://) to a host that is not this machine."
    )
    timeout_seconds: float = Field(
        default=30.0,
        gt=0,
        description="How long connecting, each piece of the request, and the whole answer may take.",
    )

    @field_validator("url", "api_url", mode="before", check_fields=False)
    @classmethod
    def _check_url(cls, value: object, info: ValidationInfo) -> object:
        if isinstance(value, str) and not isinstance(value, EnvVar):
            return check_url(value, allow_http=bool(info.data.get("allow_http")))
        return value


class HttpClientOptions(HttpOptions):
    """A destination that :class:`HttpClient` speaks to, in ``_http``."""

    networks: Networks = Field(default="private", description=DESCRIPTION)
    _http: HttpClient = PrivateAttr(default_factory=HttpClient)

    @property
    def connections(self) -> Connections:
        """What connections are opened with."""
        return replace(super().connections, networks=self.networks)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()
