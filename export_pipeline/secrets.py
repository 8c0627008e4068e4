"""Secrets: configured as ``{env: NAME}``, resolved where they are used, and removed from every text."""

import base64
import os
import re
from collections.abc import Iterable
from functools import lru_cache
from html.entities import codepoint2name

from pydantic import BaseModel, ConfigDict, Field

from export_pipeline.errors import ConfigurationError

REPLACEMENT = "[secret]"
MIN_SCRUBBED_CHARACTERS = 4

_ESCAPED = {"/": "/", '"': '"', "'": "'", "\\": "\\", "\n": "n", "\r": "r", "\t": "t", "\b": "b", "\f": "f"}
"""Character → what follows a backslash in its escape."""
_WRAPPED = r"(?:\s|\\+[rn])*"
"""Line ends inside base64: PEM has lines of 64 characters and MIME of 76; in JSON they are escaped."""
_BASE64 = {
    "+": r"(?:[+\-]|%2[bB]|\\+u002[bB]|&#43;|&#[xX]2[bB];)",
    "/": r"(?:\\*/|_|%2[fF]|\\+u002[fF]|&#47;|&#[xX]2[fF];)",
}


class EnvRef(BaseModel):
    """A value that is in an environment variable: ``{env: NAME}``."""

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
    """*text* with every secret replaced by ``[secret]``, in every encoding in which programs repeat their input.

    These are, also mixed: percent and form encoding, JSON escapes (including PHP's, which escapes the slash, and JSON
    within JSON), HTML character references, Python and C escapes; and the whole secret in hexadecimal digits, or in
    base64 with either alphabet, at any position in the encoded bytes (as in ``user:secret``) and with any line
    wrapping. A secret shorter than four characters is replaced only if it is the whole text: otherwise it would tear
    ordinary words apart, and it is not a real secret.
    """
    for secret in sorted(set(secrets), key=len, reverse=True):
        if len(secret) >= MIN_SCRUBBED_CHARACTERS:
            text = _pattern(secret).sub(REPLACEMENT, text)
        elif secret and text == secret:
            text = REPLACEMENT
    return text


@lru_cache(maxsize=256)
def _pattern(secret: str) -> "re.Pattern[str]":
    """A regular expression that finds *secret* in any encoding."""
    raw = secret.encode("utf-8", "surrogatepass")
    spelled = "".join(f"(?:{_spellings(character)})" for character in secret)
    hexadecimal = "[: ]?".join(_hex(f"{byte:02x}") for byte in raw)
    return re.compile("|".join([spelled, hexadecimal, *_base64(raw)]))


def _spellings(character: str) -> str:
    """The ways to write one *character*, as a regular expression."""
    code = ord(character)
    ways = [re.escape(character)]
    ways.append("".join(f"%%?{_hex(f'{byte:02x}')}" for byte in character.encode("utf-8", "surrogatepass")))
    units = character.encode("utf-16-be", "surrogatepass").hex()
    ways.append("".join(rf"\\+u{_hex(units[start : start + 4])}" for start in range(0, len(units), 4)))
    ways.append(rf"\\+(?:U{_hex(f'{code:08x}')}|u\{{0*{_hex(f'{code:x}')}\}})")
    if code < 0x100:
        ways.append(rf"\\+x{_hex(f'{code:02x}')}")
    if character in _ESCAPED:
        ways.append(rf"\\+{re.escape(_ESCAPED[character])}")
    names = "".join(f"|{name}" for name in (codepoint2name.get(code), "apos" if character == "'" else None) if name)
    ways.append(f"&(?:amp;)*(?:#0*{code}|#[xX]0*{_hex(f'{code:x}')}{names});")
    if character == " ":
        ways.append(r"\+")
    return "|".join(ways)


def _hex(digits: str) -> str:
    """Hexadecimal *digits* in either case, as a regular expression."""
    return "".join(f"[{digit}{digit.upper()}]" if digit.isalpha() else digit for digit in digits)


def _base64(raw: bytes) -> Iterable[str]:
    """The characters of base64 that depend on the secret alone, for each of the three alignments."""
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + raw).decode("ascii").rstrip("=")
        start = (0, 2, 3)[shift]
        # The last character also contains bits of what follows, unless the secret ends on a boundary of three bytes.
        stop = len(encoded) if (shift + len(raw)) % 3 == 0 else len(encoded) - 1
        core = encoded[start:stop]
        if len(core) >= MIN_SCRUBBED_CHARACTERS:
            yield _WRAPPED.join(_BASE64.get(character, character) for character in core)
