"""One page of a listing of S3, read fast.

botocore turns a page of 1,000 keys into Python objects in 60 ms. Its event ``before-parse`` hands over the answer
first: here the files are taken out of it in 2 ms, and botocore, which goes on with signing, retries, redirects and
errors as ever, gets the small rest.
"""

import re
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus
from xml.etree import ElementTree

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Listed = tuple[str, str, int, datetime]
FILES = "ExportPipelineFiles"

_OPEN, _CLOSE = b"<Contents>", b"</Contents>"
# How AWS and most others write an entry; where a page does not match it whole, the XML parser reads that page.
_ENTRY = re.compile(
    rb"<Contents>\s*<Key>([^<&]+)</Key>\s*<LastModified>([^<&]+)</LastModified>\s*<ETag>([^<]*)</ETag>\s*"
    rb"(?:<Checksum(?:Algorithm|Type)>[^<]*</Checksum(?:Algorithm|Type)>\s*)*<Size>(\d+)</Size>"
)
_ENCODED = re.compile(rb"<EncodingType>\s*url\s*</EncodingType>")


def read_pages_fast(client: "S3Client") -> None:
    """Have *client* put the files of each ``list_objects_v2`` under the name :data:`FILES` instead of ``Contents``.

    Each is a tuple of key, etag without quotes, size in bytes, time of the last change.
    """
    # By this name it comes before botocore's own handlers, one of which would parse the whole page to look for errors.
    client.meta.events.register("before-parse.*.ListObjectsV2", _take_files)


def _take_files(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
    if response_dict["status_code"] != 200:
        return
    try:
        files, rest = read_page(response_dict["body"])
    except ElementTree.ParseError:
        # Cut off, most likely. botocore finds the same and asks again.
        return
    customized_response_dict[FILES] = files
    response_dict["body"] = rest


def read_page(body: bytes) -> tuple[list[Listed], bytes]:
    """The files of a page, and the page without them.

    Args:
        body: the XML of a ``ListBucketResult``.

    Raises:
        ValueError, xml.etree.ElementTree.ParseError: it is none.
    """
    entries = _ENTRY.findall(body)
    if not len(entries) == body.count(_OPEN) == body.count(_CLOSE) or b"<!" in body:
        return _parse_page(body)
    if not entries:
        return [], body
    rest = body[: body.index(_OPEN)] + body[body.rindex(_CLOSE) + len(_CLOSE) :]
    is_encoded = _ENCODED.search(rest) is not None
    times: dict[bytes, datetime] = {}
    files: list[Listed] = []
    for raw_key, modified, etag, size in entries:
        if modified not in times:
            times[modified] = _time(modified.decode())
        key = raw_key.decode()
        if is_encoded and ("%" in key or "+" in key):
            key = unquote_plus(key)
        files.append((key, etag.decode().replace("&quot;", "").strip('"'), int(size), times[modified]))
    return files, rest


def _parse_page(body: bytes) -> tuple[list[Listed], bytes]:
    # From the store one is logged in to; expat loads no external entities and stops exponential ones.
    root = ElementTree.fromstring(body)  # noqa: S314
    space = root.tag[: root.tag.rfind("}") + 1]
    is_encoded = (root.findtext(f"{space}EncodingType") or "").strip() == "url"
    files: list[Listed] = []
    for element in root.findall(f"{space}Contents"):
        fields = {child.tag.removeprefix(space): child.text or "" for child in element}
        key = unquote_plus(fields["Key"]) if is_encoded else fields["Key"]
        files.append((key, fields.get("ETag", "").strip('"'), int(fields["Size"]), _time(fields["LastModified"])))
        root.remove(element)
    return files, ElementTree.tostring(root)


def _time(text: str) -> datetime:
    # Python 3.10 reads no Z.
    moment = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
