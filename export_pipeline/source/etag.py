"""Entity tags: the one place that defines how a store's tag is kept, and when two of them mean the same bytes.

RFC 9110, section 8.8.3, puts a tag in quotation marks, with ``W/`` before a weak one. Servers that speak S3 write the
quotes as they are, as ``&quot;``, ``&#34;`` or ``&#x22;``, or omit them; a proxy that compresses responses makes tags
weak; and hexadecimal digits come in either case, sometimes in both from one server.
"""

import re
from hashlib import sha256
from html import unescape

# What the ledger has room for.
_MOST_CHARACTERS = 256
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_HEX = re.compile(r"[0-9A-Fa-f]+(?:-[0-9]+)?")
# ``&amp;quot;`` is escaped twice.
_MOST_LAYERS = 8


def clean(raw: str | None) -> str:
    """The tag as it is kept: without quotes, in the case that the store used; empty: there is none.

    If-Match sends it too, in plain quotation marks: stores compare case, and recognize their own tag.
    """
    tag = raw or ""
    for _ in range(_MOST_LAYERS):
        bare = _bare(tag)
        if bare == tag:
            break
        tag = bare
    if bare != tag or len(tag) > _MOST_CHARACTERS or not (tag.isascii() and tag.isprintable()):
        return f"sha256-{sha256(tag.encode('utf-8', 'surrogatepass')).hexdigest()}"
    return tag


def _bare(tag: str) -> str:
    """*tag* without one layer of quoting."""
    tag = _CONTROL.sub("", unescape(tag) if "&" in tag else tag).strip()
    return (tag[2:] if tag[:2] in ("W/", "w/") else tag).strip().strip('"')


def are_same(one: str | None, other: str | None) -> bool:
    """Whether two tags, however spelled, stand for the same bytes."""
    return one == other or _compared(one) == _compared(other)


def spellings(tag: str) -> list[str]:
    """How earlier versions kept a tag that is now *tag*, with *tag* itself first."""
    cases = [tag, tag.lower(), tag.upper()] if _HEX.fullmatch(tag) else [tag]
    earlier = ("{}", 'W/"{}', "W/{}", "&#34;{}&#34;", "&#x22;{}&#x22;", "W/&#34;{}&#34;", "W/&#x22;{}&#x22;")
    return [form.format(case) for form in earlier for case in dict.fromkeys(cases)]


def _compared(tag: str | None) -> str:
    """Hexadecimal digits in one case. In other tags, such as Google's base64, case is significant."""
    kept = clean(tag)
    return kept.lower() if _HEX.fullmatch(kept) else kept
