"""Parses one page of an S3 listing, fast.

botocore takes 60 ms to turn a page of 1,000 keys into Python objects. Its event ``before-parse`` passes the response
here first: the files are taken out of it in 2 ms, and botocore, which handles signing, retries, redirects and
errors as always, gets the small rest.

A page that is not written as AWS writes it goes through an XML parser: other namespaces or none, entries in another
order, comments. Some servers write what XML 1.0 does not allow, such as a key with ``&#x1;``: it is read, too.
"""

import re
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus
from xml.etree import ElementTree

from export_pipeline.printable import printable
from export_pipeline.source.etag import clean

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Listed = tuple[str, str, int, datetime]
FILES = "ExportPipelineFiles"

_OPEN, _CLOSE = b"<Contents>", b"</Contents>"
_NAME = b"Contents"
# How AWS and most others write an entry; if a page does not match completely, the XML parser reads it.
_ENTRY = re.compile(
    rb"<Contents>\s*<Key>([^<&]+)</Key>\s*<LastModified>([^<&]+)</LastModified>\s*<ETag>([^<]*)</ETag>\s*"
    rb"(?:<Checksum(?:Algorithm|Type)>[^<]*</Checksum(?:Algorithm|Type)>\s*)*<Size>(\d+)</Size>"
)
_OTHER_ENCODING = re.compile(rb"<\?xml[^>]{0,60}encoding\s*=\s*.(?!utf-8.)", re.IGNORECASE)
_ENCODED = re.compile(rb"<EncodingType>\s*url\s*</EncodingType>")
# botocore knows only one spelling, and takes any other for the end of the listing.
_TRUNCATED = re.compile(rb"(<(?:\w+:)?IsTruncated[^>]*>)\s*(?:true|1|yes)\s*(</)", re.IGNORECASE)
_REFERENCE = re.compile(rb"&#(?:x([0-9A-Fa-f]{1,6})|([0-9]{1,7}));")
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]")
# Characters that XML does not allow are replaced during parsing by ones of a private-use plane of Unicode.
_STAND_IN = 0x10_FF00
_STOOD_IN = re.compile(f"[{chr(_STAND_IN)}-{chr(_STAND_IN + 0x1F)}]")
_MOMENT = re.compile(
    r"(\d{4})-?(\d\d)-?(\d\d)[T ](\d\d):?(\d\d):?(\d\d)(?:[.,](\d+))?\s*(?:(Z|UTC|GMT)|([+-])(\d\d):?(\d\d))?",
    re.IGNORECASE,
)
_MOST_BYTES = 1 << 62
_DIGITS_OF_SIZE = 19
_FIELDS = ("Key", "LastModified", "ETag", "Size")


def read_pages_fast(client: "S3Client") -> None:
    """Make *client* return the files of each ``list_objects_v2`` as :data:`FILES` instead of ``Contents``.

    Each is a tuple of key, etag without quotes, size in bytes, time of the last modification.
    """
    # Under this name it runs before botocore's own handlers, one of which would parse the whole page to find errors.
    client.meta.events.register("before-parse.*.ListObjectsV2", _take_files)


def _take_files(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
    if response_dict["status_code"] != 200:
        return
    try:
        files, rest = read_page(response_dict["body"])
    except ElementTree.ParseError:
        # Truncated, most likely. botocore notices too, and retries.
        return
    customized_response_dict[FILES] = files
    response_dict["body"] = rest


def read_page(body: bytes) -> tuple[list[Listed], bytes]:
    """The files of a page, and the page without them. Folder placeholders, which end in ``/``, are not files.

    Args:
        body: the XML of a ``ListBucketResult``.

    Raises:
        ValueError, xml.etree.ElementTree.ParseError: it is not one, or an entry lacks what a file needs; the text has
            its key.
    """
    entries = _ENTRY.findall(body)
    # Even if the word occurs elsewhere, in a namespace or a key: no entry may be skipped.
    is_as_usual = len(entries) == body.count(_CLOSE) == body.count(_NAME) / 2
    if not is_as_usual or b"<!" in body or b"\r" in body or _OTHER_ENCODING.match(body) is not None:
        return _parse_page(body)
    if not entries:
        return [], _TRUNCATED.sub(rb"\1true\2", body)
    rest = body[: body.index(_OPEN)] + body[body.rindex(_CLOSE) + len(_CLOSE) :]
    is_encoded = _ENCODED.search(rest) is not None
    times: dict[bytes, datetime] = {}
    files: list[Listed] = []
    for raw_key, modified, raw_tag, size in entries:
        key = raw_key.decode()
        if is_encoded and ("%" in key or "+" in key):
            key = unquote_plus(key)
        if key[-1] == "/":
            continue
        if modified not in times:
            times[modified] = _told(key, _time, modified.decode())
        tag = raw_tag.decode().replace("&quot;", "")
        if not tag.replace("-", "").isalnum():
            tag = clean(raw_tag.decode())
        size_bytes = int(size) if len(size) < _DIGITS_OF_SIZE else _told(key, _size, size.decode())
        files.append((key, tag, size_bytes, times[modified]))
    return files, _TRUNCATED.sub(rb"\1true\2", rest)


def _parse_page(body: bytes) -> tuple[list[Listed], bytes]:
    # The body comes from the store one is logged in to; expat loads no external entities and stops exponential ones.
    try:
        root = ElementTree.fromstring(_without_controls(body))  # noqa: S314
    except LookupError as error:
        raise ValueError(str(error)) from None  # an unknown encoding
    is_encoded = any(_local(child.tag) == "EncodingType" and (child.text or "").strip() == "url" for child in root)
    files: list[Listed] = []
    for element in [child for child in root if _local(child.tag) == "Contents"]:
        root.remove(element)
        fields = {_local(child.tag): child.text or "" for child in element}
        if any(sum(_local(child.tag) == name for child in element) > 1 for name in _FIELDS):
            raise ValueError(f"the entry of {printable(fields.get('Key', ''))} has a duplicate field")
        key = _STOOD_IN.sub(lambda found: chr(ord(found[0]) - _STAND_IN), fields.get("Key", ""))
        key = unquote_plus(key) if is_encoded else key
        if not key:
            raise ValueError("an entry of the listing has no key")
        if not key.endswith("/"):
            moment = _told(key, _time, fields.get("LastModified", ""))
            tag = clean(_STOOD_IN.sub("", fields.get("ETag", "")))
            files.append((key, tag, _told(key, _size, fields.get("Size", "")), moment))
    # Without namespace prefixes, which botocore does not know.
    for element in root.iter():
        element.tag = _local(element.tag)
    return files, _TRUNCATED.sub(rb"\1true\2", ElementTree.tostring(root))


def _local(tag: Any) -> str:
    """A name without its namespace."""
    return str(tag).rpartition("}")[2]


def _without_controls(body: bytes) -> bytes:
    """*body* with stand-ins for the control characters that XML 1.0 does not allow, even escaped."""

    def stand_in(found: "re.Match[bytes]") -> bytes:
        code = int(found[1], 16) if found[1] else int(found[2])
        is_forbidden = code < 0x20 and code not in (0x9, 0xA, 0xD)
        return chr(_STAND_IN + code).encode() if is_forbidden else found[0]

    body = _REFERENCE.sub(stand_in, body) if b"&#" in body else body
    return _CONTROL.sub(lambda found: chr(_STAND_IN + found[0][0]).encode(), body)


def _told(key: str, read: Callable[[str], Any], text: str) -> Any:
    try:
        return read(text)
    except ValueError as error:
        raise ValueError(f"the entry of {printable(key)} has {error}") from None


def _size(text: str) -> int:
    stripped = text.strip()
    if not (stripped.isascii() and stripped.isdigit() and len(stripped) < 20 and int(stripped) < _MOST_BYTES):
        raise ValueError(f"an invalid size in bytes: {printable(stripped[:40]) or 'nothing'}")
    return int(stripped)


def _time(text: str) -> datetime:
    """A time in ISO 8601, with any number of fractional digits, or as in HTTP; UTC if it has no time zone."""
    found = _MOMENT.fullmatch(text.strip())
    try:
        if found is None:
            moment = parsedate_to_datetime(text.strip())
            return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
        *numbers, fraction, _, sign, hours, minutes = found.groups()
        offset = timedelta(hours=int(hours or 0), minutes=int(minutes or 0)) * (-1 if sign == "-" else 1)
        year, month, day, hour, minute, second = map(int, numbers)
        # A leap second counts as the one before it.
        whole = datetime(year, month, day, hour, minute, min(second, 59), tzinfo=timezone.utc)
        return (whole - offset).replace(microsecond=int(f"{fraction or '':0<6.6}"))
    except (ValueError, OverflowError, TypeError):
        raise ValueError(f"an invalid modification time: {printable(text.strip()[:40]) or 'nothing'}") from None
