"""Keep the content of events out of what a destination says about them.

Many destinations repeat in an error what they did not like. What leads to a failure is shown in logs, in the ledger and
in alerts, where no one expects user data.
"""

import re

HIDDEN = "[event data]"
# Shorter ones are hardly personal data, and would tear ordinary words apart.
_LEAST_CHARACTERS = 5
_WORD = re.compile(r"[^\s\"'`<>{}\[\](),;:=\\]{%d,}" % _LEAST_CHARACTERS)  # noqa: UP031 (braces)
_LITERALS = {"false"}
# The rest of a member's name, behind a part of it.
_IN_NAME = rb'(?![^"\\]*"\s*:)'


def without_echoes(text: str, data: bytes) -> str:
    """*text* without words that are values, or in values, of the events in *data* (NDJSON); names of members stay."""
    hidden = {word for word in set(_WORD.findall(text)) - _LITERALS if _is_in_a_value(word, data)}
    return _WORD.sub(lambda found: HIDDEN if found.group() in hidden else found.group(), text) if hidden else text


def _is_in_a_value(word: str, data: bytes) -> bool:
    raw = word.encode("utf-8", "surrogatepass")
    return raw in data and re.search(re.escape(raw) + _IN_NAME, data) is not None
