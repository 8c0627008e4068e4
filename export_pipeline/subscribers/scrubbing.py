"""Keep credentials out of every text that leaves a subscriber."""

import re
from collections.abc import Iterable
from urllib.parse import urlsplit, urlunsplit

from export_pipeline.printable import printable, printable_lines
from export_pipeline.secrets import REPLACEMENT
from export_pipeline.secrets import scrub as scrub_secrets

MAX_REASON_CHARACTERS = 1_000
MAX_ANSWER_BYTES = 500

_USERINFO = re.compile(r"([a-zA-Z][a-zA-Z0-9+.\-]*://)[^/\s@'\"]+@")
_QUERY = re.compile(r"([a-zA-Z][a-zA-Z0-9+.\-]*://[^\s?#'\"<>]*)\?[^\s'\"<>]*")
_NAMED = re.compile(
    r"(?i)\b(authorization|x-api-key|api[_-]?key|password|passwd|secret|access[_-]?key|token)"
    r"(['\"]?\s*[:=]\s*)(['\"]?)(?:(?:bearer|basic)\s+)?[^\s'\",;&}]+"
)


def scrub(text: str, secrets: Iterable[str] = ()) -> str:
    """*text* without *secrets*, credentials and queries in URLs, values of ``password=`` and the like; cut at 1,000.

    Control characters that a terminal would interpret are escaped.
    """
    text = scrub_secrets(text, secrets)
    text = _USERINFO.sub(rf"\1{REPLACEMENT}@", text)
    text = _QUERY.sub(rf"\1?{REPLACEMENT}", text)
    text = printable_lines(_NAMED.sub(rf"\1\2\3{REPLACEMENT}", text))
    return text if len(text) <= MAX_REASON_CHARACTERS else text[: MAX_REASON_CHARACTERS - 1] + "…"


def public_url(url: str, *, path: bool = True) -> str:
    """*url* without user, password, query and fragment, and without its path unless *path*."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path if path else "", "", ""))


def excerpt(answer: bytes) -> str:
    """The first 500 bytes of a response, on one line."""
    return printable(" ".join(answer[:MAX_ANSWER_BYTES].decode("utf-8", "replace").split()))
