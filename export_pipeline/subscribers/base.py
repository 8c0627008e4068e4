"""The base class of all subscribers: a Dagster resource with one method."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import unquote, urlsplit

from dagster import EnvVar, InitResourceContext
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator
from pydantic.config import JsonDict

from export_pipeline.batching.batch import Batch, Receipt
from export_pipeline.errors import TryLater
from export_pipeline.secrets import REPLACEMENT
from export_pipeline.subscribers import paths
from export_pipeline.subscribers.filters import Selected, as_values, select
from export_pipeline.subscribers.launchable import LaunchableResource
from export_pipeline.subscribers.scrubbing import scrub

if TYPE_CHECKING:
    from export_pipeline.ledger.claims import Claims

SECRET: JsonDict = {"dagster__is_secret": True}
"""``json_schema_extra`` of a field that holds a secret, or a mapping of names to secrets."""


class Subscriber(LaunchableResource, ABC):
    """A destination of events. Subclass it, declare options as fields, write :meth:`deliver`."""

    # A validation error would otherwise quote the invalid value, which may be a secret.
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    since: str | None = Field(
        default=None,
        description="Where this subscriber starts: now, beginning, or a date (YYYY-MM-DD). By default start_from if "
        "the ledger is new, now if this subscriber is added later.",
    )
    retry_for_seconds: float = Field(
        default=30.0,
        ge=0,
        description="How long one call is retried within a run before its batch is left to the next run, in seconds.",
    )
    max_run_seconds: float | None = Field(
        default=None,
        gt=0,
        description="Time budget for deliveries to this subscriber in one run, in seconds; checked between batches. "
        "The next run continues after the last batch. By default an equal share of the run's max_run_seconds, so that "
        "a slow subscriber delays neither the others nor the next run.",
    )
    max_in_flight: int = Field(
        default=1,
        ge=1,
        le=64,
        description="How many batches are sent at the same time. With 1 they arrive in order; after a crash at most "
        "this many are sent again.",
    )
    only: dict[str, list[Any]] = Field(
        default_factory=dict,
        description="Send only events that have one of these values at each of these paths; a plain list means event "
        "types.",
        examples=[{"event_type": ["pageView", "click"]}],
    )
    except_: dict[str, list[Any]] = Field(
        default_factory=dict,
        alias="except",
        description="Do not send events that have one of these values at one of these paths; a plain list means event "
        "types.",
        examples=[{"attributes.blogId": ["7"]}],
    )
    drop_fields: list[str] = Field(
        default_factory=list,
        description="Paths of fields to remove from every event before it is sent; * matches every key or element.",
        examples=[["endpoint.Address", "endpoint.User.UserAttributes.*"]],
    )

    needs: ClassVar[tuple[str, ...]] = ()
    """Modules that must be installed; the entry point names the extra that installs them."""

    folder_options: ClassVar[tuple[str, ...]] = ()
    """Options that may name a local folder, which steps on other machines would not have."""

    _is_checked: bool = PrivateAttr(default=False)
    _claims: Any = PrivateAttr(default=None)

    @classmethod
    def folders(cls, options: Mapping[str, Any]) -> dict[str, str]:
        """Option → the local folder or URL that it names in *options*."""
        return {name: options[name] for name in cls.folder_options if isinstance(options.get(name), str)}

    @classmethod
    def name_patterns(cls, options: Mapping[str, Any]) -> dict[str, str]:
        """Option of :meth:`folders` → the beginning of the names below it (strftime); empty if that is unknown."""
        return {}

    @abstractmethod
    def deliver(self, batch: Batch) -> Receipt | None:
        """Return once every event of *batch* is accepted; the same ``batch.id`` may come again.

        May be called by several threads at once.

        Returns:
            None, or a Receipt that names the refused events; all others were accepted.

        Raises:
            TryLater: the same batch may be accepted later. Any exception from outside this package counts as this.
            Blocked: no batch can be accepted until the user acts.
            Refused: nothing was accepted, and some events can never be accepted.
        """

    def select(self, batch: Batch) -> Selected:
        """Apply ``only``, ``except`` and ``drop_fields`` to *batch*."""
        return select(batch, only=self.only, but=self.except_, drop_fields=self.drop_fields)

    def check(self) -> None:
        """Test address and credentials cheaply; raise Blocked or TryLater if they do not work."""

    def check_once(self) -> None:
        """Call :meth:`check`, unless it succeeded before."""
        if not self._is_checked:
            self.check()
            self._is_checked = True

    def lend_claims(self, claims: "Claims") -> None:
        """Receive the ledger's locks, for :meth:`alone`. Called before anything is delivered."""
        self._claims = claims

    @contextmanager
    def alone(self, place: str, *, wait_seconds: float) -> Iterator[None]:
        """Lock *place* for the block, against all threads, processes and machines that use the same ledger.

        For a destination that cannot be written concurrently. Without a ledger there is no lock.

        Args:
            place: a name for it, the same for all writers, without secrets.

        Raises:
            TryLater: another one still has the lock after *wait_seconds*.
        """
        if self._claims is None:
            yield
            return
        with self._claims.claim(f"place:{place}", wait_seconds=wait_seconds) as mine:
            if not mine:
                raise TryLater(f"{place}: another worker still writes there after {wait_seconds:g} s")
            yield

    def close(self) -> None:
        """Close connections; called once, when the run ends. The subscriber may be used again afterwards."""

    def secret_values(self) -> tuple[str, ...]:
        """The values of its secret fields and the passwords in its URLs, to be removed from texts."""
        secrets = [text for name in secret_fields(type(self)) for text in _texts(getattr(self, name))]
        texts = [text for name in type(self).model_fields for text in _texts(getattr(self, name))]
        return (*secrets, *(password for text in texts for password in _passwords(text)))

    def teardown_after_execution(self, context: InitResourceContext) -> None:
        """Called by Dagster when the run ends, or with the multiprocess executor the step."""
        self.close()

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Show no secret in ``repr`` and ``str``."""
        hidden = secret_fields(type(self))
        for name, value in super().__repr_args__():
            if name in hidden and value is not None:
                yield name, REPLACEMENT
            elif not (name or "").endswith("__internal__"):
                yield name, scrub(value, self.secret_values()) if isinstance(value, str) else value

    @field_validator("only", "except_", mode="before")
    @classmethod
    def _read_values(cls, value: object) -> object:
        return as_values(value)

    @field_validator("only", "except_", "drop_fields")
    @classmethod
    def _check_paths(cls, value: Any) -> Any:
        for path in value:
            paths.split(path)
            if isinstance(value, dict) and None in value[path]:
                raise ValueError(f"{path}: null is not a value to look for")  # and Dagster's config cannot hold it
        return value

    @field_validator("since", mode="before")
    @classmethod
    def _check_since(cls, value: object) -> object:
        if isinstance(value, date):  # YAML reads 2026-11-23 as a date
            return value.isoformat()
        if not isinstance(value, str) or isinstance(value, EnvVar) or value in ("now", "beginning"):
            return value
        try:
            return date.fromisoformat(value).isoformat()
        except ValueError:
            raise ValueError(f"{value!r} is neither now, nor beginning, nor a date like 2026-11-23") from None


def secret_fields(subscriber_type: type[BaseModel]) -> set[str]:
    """Names of the fields that hold secrets: their values, or the values of a mapping, belong in the environment."""
    return {
        name
        for name, info in subscriber_type.model_fields.items()
        if isinstance(info.json_schema_extra, dict) and info.json_schema_extra.get("dagster__is_secret")
    }


def _passwords(text: str) -> Iterator[str]:
    """The password in *text*, if it is a URL with one: as written, and decoded."""
    if "://" not in text or "@" not in text:
        return
    try:
        password = urlsplit(text).password
    except ValueError:
        return
    if password:
        yield from {password, unquote(password)}


def _texts(value: object) -> Iterator[str]:
    """Every string in *value*: a string, or a mapping or list of strings."""
    if isinstance(value, EnvVar):
        return  # not resolved yet: a name, not a secret
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)
