"""What the subscribers of AWS services share: credentials, the boto3 client, and what its errors mean."""

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

# Codes that AWS answers with status 400 although nothing is wrong with the request.
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


UNANSWERED = "AWS did not say what became of it"


class AwsSubscriber(LoginFields, ConnectionOptions, RequestSubscriber):
    """A subclass sets ``service`` and the limits, and writes :meth:`encode` and :meth:`post`."""

    service: ClassVar[str]
    timeout_seconds: float = Field(
        default=30.0, gt=0, description="How long one request may take, its answer included."
    )
    _client: Any = PrivateAttr(default=None)
    _opening: Any = PrivateAttr(default_factory=threading.Lock)

    def call(self, ask: Callable[[Any], T]) -> T:
        """What *ask* gets from the client.

        Raises:
            TryLater, Blocked, Refused: what an error of AWS means.
        """
        from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError, SSLError

        try:
            client = self._open()
            # botocore's time-outs are those of single reads.
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
        """A *question* for :meth:`check`; credentials that may only write are no fault."""

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
                # One try: sending again, and only what failed, is done by the caller.
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
        """Proxy and certificate for the endpoint *place*, as botocore's configuration has them.

        Raises:
            Blocked: a file of a certificate is missing or is none, or the proxy is not one of HTTP.
        """
        if self.ca_file or self.client_cert_file:
            self.connections.tls()
        proxy = proxy_for(place, self.proxy_url)
        try:
            # Without a proxy botocore would look for one itself, and does not read all forms of no_proxy.
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
                "the AWS client reads no encrypted key; allowed: nothing, and a client_key_file without one"
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
        """An error that is none of AWS's answers: the network's passes, one of configuration does not."""
        from botocore.exceptions import ConnectionError as NoConnection
        from botocore.exceptions import HTTPClientError, IncompleteReadError, ResponseStreamingError

        passing = (NoConnection, HTTPClientError, IncompleteReadError, ResponseStreamingError)
        text = f"{self.service}: {type(error).__name__}: {error}"
        return TryLater(text) if isinstance(error, passing) else Blocked(text)


class Path:
    """A path of the configuration into an event, or the event's own hash where there is none."""

    def __init__(self, path: str | None) -> None:
        self._reader: Reader | None = compile_mapping({"$first_id": [path]}) if path else None

    def of(self, event: bytes, *, allowed: "re.Pattern[str]", max_characters: int) -> str:
        """The first characters of the text at the path, or their hash where they are not *allowed*.

        So what has the same text there stays together, whatever it is.

        The event's hash where it has nothing there, or only blanks.
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
        """*path*, if it is one.

        Raises:
            ValueError: it is none.
        """
        if path is not None:
            compile_mapping(path)
        return path


def failed(answers: Sequence[dict[str, Any]], *, records: int) -> dict[int, str]:
    """Number of each of so many *records* that was not taken → why, from the answer to PutRecords or PutRecordBatch."""
    reasons = {
        number: f"{answer['ErrorCode']}: {answer.get('ErrorMessage', '')}"
        for number, answer in enumerate(answers)
        if answer.get("ErrorCode")
    }
    return reasons | dict.fromkeys(range(len(answers), records), UNANSWERED)
