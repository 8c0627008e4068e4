"""What the subscribers for AWS services share: credentials, the boto3 client, and the meaning of its errors."""

import hashlib
import re
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, ClassVar, TypeVar

from pydantic import Field, PrivateAttr, field_validator

from export_pipeline.errors import Blocked, ConfigurationError, DeliveryError, Refused, TryLater
from export_pipeline.storage.aws import open_session
from export_pipeline.subscribers.http_client import find_distrust
from export_pipeline.subscribers.http_options import ConnectionOptions
from export_pipeline.subscribers.mapping import Event, Reader, compile_mapping
from export_pipeline.subscribers.parsing import Unfit
from export_pipeline.subscribers.proxies import check_http_proxy, proxy_for
from export_pipeline.subscribers.requests import RequestSubscriber
from export_pipeline.subscribers.store_options import LoginFields
from export_pipeline.subscribers.worker import in_time

T = TypeVar("T")

# Codes that AWS returns with status 400 although the request is valid.
PASSING = frozenset(
    {
        "InternalFailure",
        "KMSThrottlingException",
        "KmsThrottled",
        "LimitExceededException",
        "OverLimit",
        "ProvisionedThroughputExceededException",
        "RequestThrottled",
        "RequestTimeout",
        "ServiceUnavailable",
        "ServiceUnavailableException",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
REFUSING = frozenset(
    {
        "AWS.SimpleQueueService.BatchRequestTooLong",
        "BatchRequestTooLong",
        "InvalidArgumentException",
        "InvalidMessageContents",
        "InvalidParameterValue",
        "MessageTooLong",
        "RequestEntityTooLarge",
        "SerializationException",
        "ValidationException",
    }
)


UNANSWERED = "AWS did not report its outcome"


class AwsSubscriber(LoginFields, ConnectionOptions, RequestSubscriber):
    """Base class; a subclass sets ``service`` and the limits, and implements :meth:`encode` and :meth:`post`."""

    service: ClassVar[str]
    ca_file: str | None = Field(
        default=None,
        description="File with the certificate authorities to trust (PEM). By default those of botocore (certifi), or "
        "of the file named by the variable AWS_CA_BUNDLE or by ca_bundle in ~/.aws/config.",
        examples=["/etc/ssl/example-ca.pem"],
    )
    timeout_seconds: float = Field(
        default=30.0, gt=0, description="Timeout of one request, its response included, in seconds."
    )
    _client: Any = PrivateAttr(default=None)
    _opening: Any = PrivateAttr(default_factory=threading.Lock)

    def call(self, ask: Callable[[Any], T]) -> T:
        """The result of *ask*, called with the client.

        Raises:
            TryLater, Blocked, Refused: according to the error of AWS.
        """
        from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError, SSLError

        try:
            client = self._open()
            # botocore's timeouts apply to single reads only.
            return in_time(lambda: ask(client), timeout_seconds=self.timeout_seconds, place=self.service)
        except ClientError as error:
            raise self._meaning(error) from None
        except ParamValidationError as error:
            raise Blocked(f"{self.service}: {error}") from None
        except SSLError as error:
            if distrust := find_distrust(error):
                text = f"{self.service}: the certificate is not trusted: {distrust.verify_message}"
                raise Blocked(text) from None
            raise self._of_client(error) from None
        except BotoCoreError as error:
            raise self._of_client(error) from None

    def ask(self, question: Callable[[Any], Any]) -> None:
        """Ask *question* for :meth:`check`; credentials that may only write are not an error."""

        def asked(client: Any) -> None:
            from botocore.exceptions import ClientError

            try:
                question(client)
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") not in ("AccessDenied", "AccessDeniedException"):
                    raise

        self.call(asked)

    def close(self) -> None:
        """Close the connections."""
        with self._opening:
            if self._client is not None:
                self._client.close()
            self._client = None

    def _open(self) -> Any:
        from botocore.config import Config

        with self._opening:
            if self._client is None:
                try:
                    session = open_session(self.store_settings())
                except ConfigurationError as error:
                    raise Blocked(f"{self.service}: {error}") from None
                region = session.region_name or ""
                domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
                place = self.endpoint_url or f"https://{self.service}.{region}.{domain}"
                # One attempt: the caller retries, and only what failed.
                config = Config(
                    **self._connecting(place),
                    connect_timeout=self.timeout_seconds,
                    read_timeout=self.timeout_seconds,
                    retries={"total_max_attempts": 1, "mode": "standard"},
                    max_pool_connections=self.max_in_flight + 1,
                )
                opened: Any = session.client(  # type: ignore[call-overload]
                    self.service, endpoint_url=self.endpoint_url, config=config, verify=self.ca_file
                )
                self._client = opened
            return self._client

    def _connecting(self, place: str) -> dict[str, Any]:
        """Proxy and certificate for the endpoint *place*, in the form of botocore's configuration.

        Raises:
            Blocked: a certificate file is missing or invalid, or the proxy is not an HTTP proxy.
        """
        if self.ca_file or self.client_cert_file:
            self.connections.tls()
        proxy = proxy_for(place, self.proxy_url)
        try:
            # Without this botocore would look for a proxy itself, and it does not understand all forms of no_proxy.
            proxies = {"http": check_http_proxy(proxy), "https": proxy} if proxy else {}
        except ValueError as error:
            raise Blocked(f"{self.service}: {error}") from None
        options: dict[str, Any] = {"proxies": proxies}
        if self.client_cert_file:
            key = self.client_key_file
            options["client_cert"] = (self.client_cert_file, key) if key else self.client_cert_file
        return options

    @field_validator("client_key_password")
    @classmethod
    def _key_is_plain(cls, value: str | None) -> str | None:
        if value is not None:
            raise ValueError(
                "the AWS client cannot read an encrypted key; allowed: no password, and an unencrypted client_key_file"
            )
        return value

    def _meaning(self, error: Any) -> DeliveryError:
        code = error.response.get("Error", {}).get("Code", "")
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code in PASSING or status in (408, 429) or status >= 500:
            return TryLater(f"{self.service}: {error}", status=code or status)
        if code in REFUSING or status == 413:
            return Refused(f"{self.service}: {error}", status=code or status)
        return Blocked(f"{self.service}: {error}", status=code or status)

    def _of_client(self, error: Exception) -> DeliveryError:
        """An error that is not a response of AWS: a network error is temporary, a configuration error is not."""
        from botocore.exceptions import ConnectionError as NoConnection
        from botocore.exceptions import HTTPClientError, IncompleteReadError, ResponseStreamingError

        passing = (NoConnection, HTTPClientError, IncompleteReadError, ResponseStreamingError)
        text = f"{self.service}: {type(error).__name__}: {error}"
        return TryLater(text) if isinstance(error, passing) else Blocked(text)


class Path:
    """The text at a configured path in an event, or the event's hash if there is none."""

    def __init__(self, path: str | None) -> None:
        self._reader: Reader | None = compile_mapping({"$first_id": [path]}) if path else None

    def of(self, event: bytes, *, allowed: "re.Pattern[str]", max_characters: int) -> str:
        """The first characters of the text at the path, or their hash if they are not *allowed*.

        So events with the same text there stay together, whatever it is.

        The event's hash if it has nothing there, or only whitespace.
        """
        found = None
        if self._reader is not None:
            with suppress(Unfit):
                found = self._reader(Event(event))
        if found is None:
            return hashlib.sha256(event).hexdigest()[:32]
        found = found[:max_characters]
        if allowed.fullmatch(found):
            return str(found)
        return hashlib.sha256(found.encode("utf-8", "surrogatepass")).hexdigest()

    @staticmethod
    def check(path: str | None) -> str | None:
        """*path*, if it is valid.

        Raises:
            ValueError: it is not a path.
        """
        if path is not None:
            compile_mapping(path)
        return path


def failed(answers: Sequence[dict[str, Any]], *, records: int) -> dict[int, str]:
    """Number of each record that was not accepted → reason, from the response to PutRecords or PutRecordBatch.

    Args:
        records: how many were sent.
    """
    reasons = {
        number: f"{answer['ErrorCode']}: {answer.get('ErrorMessage', '')}"
        for number, answer in enumerate(answers)
        if answer.get("ErrorCode")
    }
    return reasons | dict.fromkeys(range(len(answers), records), UNANSWERED)
