"""Secrets: named in configuration as ``{env: NAME}``, resolved where they are used, and kept out of every text."""

import base64
import json
import os
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

from pydantic import BaseModel, ConfigDict, Field

from export_pipeline.errors import ConfigurationError

REPLACEMENT = "[secret]"
MIN_SCRUBBED_CHARACTERS = 4


class EnvRef(BaseModel):
    """A value that is kept in an environment variable: ``{env: NAME}``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    env: str = Field(min_length=1, pattern=r"^[^=\x00]+$", description="Name of the environment variable.")

    def resolve(self) -> str:
        """The variable's value.

        Raises:
            ConfigurationError: the variable is not set, or empty.
        """
        value = os.environ.get(self.env)
        if not value:
            state = "not set" if value is None else "empty"
            raise ConfigurationError(f"environment variable {self.env} is {state}; {{env: {self.env}}} needs its value")
        return value


def resolve(value: str | EnvRef | None) -> str | None:
    """The plain value of a configured one."""
    return value.resolve() if isinstance(value, EnvRef) else value


def scrub(text: str, secrets: Iterable[str]) -> str:
    """*text* with every secret replaced by ``[secret]``, also where it is URL-quoted, JSON-escaped or base64.

    Base64 is found wherever the secret stands in the encoded bytes (as in ``user:secret``), in both alphabets.
    A secret shorter than four characters is only replaced where it makes up the whole text: it would otherwise
    tear ordinary words apart, and is none.
    """
    forms: set[str] = set()
    for secret in secrets:
        if len(secret) < MIN_SCRUBBED_CHARACTERS:
            text = REPLACEMENT if secret and text == secret else text
            continue
        forms.update(_forms(secret))
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, REPLACEMENT)
    return text


def _forms(secret: str) -> Iterable[str]:
    """Every spelling under which the secret may turn up."""
    quoted = {quote(secret, safe=""), quote(secret), quote_plus(secret)}
    escaped = {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1]}
    return {secret, *quoted, *(form.replace("%", "%%") for form in quoted if "%" in form), *escaped, *_base64(secret)}


def _base64(secret: str) -> Iterable[str]:
    """The characters of base64 that depend on the secret alone, at each of the three alignments."""
    raw = secret.encode("utf-8", "surrogatepass")
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + raw).decode("ascii").rstrip("=")
        start = (0, 2, 3)[shift]
        # The last character also holds bits of what follows, unless the secret ends on a boundary of three bytes.
        stop = len(encoded) if (shift + len(raw)) % 3 == 0 else len(encoded) - 1
        core = encoded[start:stop]
        if len(core) >= MIN_SCRUBBED_CHARACTERS:
            yield core
            yield core.replace("+", "-").replace("/", "_")
