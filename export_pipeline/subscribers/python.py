"""Call a Python function with every batch."""

import inspect
from collections.abc import Callable
from typing import Any

from dagster import EnvVar
from pydantic import Field, PrivateAttr, field_validator

from export_pipeline.batching.batch import Batch, Receipt
from export_pipeline.errors import Blocked, ConfigurationError
from export_pipeline.subscribers.base import Subscriber
from export_pipeline.subscribers.importing import is_object_path, load_object


class Python(Subscriber):
    """Calls your own function, as ``function(ndjson, batch)``, in the process of the run.

    It receives the events as one string of newline-delimited JSON, and the Batch with its id, count and files. When
    it returns, the events count as accepted. It may return a Receipt that names refused events, and may raise
    TryLater, Blocked or Refused from ``export_pipeline.errors``; any other exception counts as TryLater. It may be
    called again with the same batch and id.
    """

    function: str = Field(
        description='The function, as "package.module:name"; the module is installed, or is in the working folder.',
        examples=["my_package.analytics:receive"],
    )
    _loaded: Callable[[str, Batch], object] | None = PrivateAttr(default=None)

    @field_validator("function", mode="before")
    @classmethod
    def _check_function(cls, value: object) -> object:
        if isinstance(value, str) and not isinstance(value, EnvVar) and not is_object_path(value):
            raise ValueError(f"{value!r} is not of the form package.module:name")
        return value

    def deliver(self, batch: Batch) -> Receipt | None:
        """Call the function.

        Raises:
            Blocked: it cannot be found, does not accept two arguments, or returned something other than a Receipt.
        """
        answer = self._load()(batch.data.decode(), batch)
        if answer is not None and not isinstance(answer, Receipt):
            raise Blocked(f"{self.function} returned a {type(answer).__name__}; allowed are None and a Receipt")
        return answer

    def check(self) -> None:
        """Import the function."""
        self._load()

    def _load(self) -> Callable[[str, Batch], object]:
        if self._loaded is None:
            self._loaded = self._find()
        return self._loaded

    def _find(self) -> Callable[[str, Batch], object]:
        try:
            found: Any = load_object(self.function)
        except ConfigurationError as error:
            raise Blocked(str(error)) from error
        if not callable(found):
            raise Blocked(f"{self.function} is a {type(found).__name__}, not a function")
        try:
            inspect.signature(found).bind("", None)
        except TypeError as error:
            raise Blocked(f"{self.function} cannot be called with (ndjson, batch): {error}") from None
        except ValueError:
            pass  # a builtin without a signature
        checked: Callable[[str, Batch], object] = found
        return checked
