"""Servers that deviate from S3: each option is what some real server does."""

from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import quote

from export_pipeline_tests.servers.objects import ObjectServer, Request, etag_of

SPACE = ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'


def quoted(tag: str) -> str:
    """A tag as HTTP has it."""
    return f'"{tag}"'


@dataclass
class LookAlike(ObjectServer):
    """A store of one bucket, named ``bkt``, with habits.

    Attributes:
        header_tag: how a tag stands in headers; If-Match must be that, to the letter.
        listed_tag: how it stands in a listing, as XML.
        tag_of: content → tag; another server may have another one.
        knows_if_match: compares it.
        knows_start_after: begins a listing there.
        space: what stands behind the name of the root element.
        encodes: keys in URL encoding.
        moment: the time of each change.
        entry: made of key, tag, size and moment, instead of AWS's form.
        more: what stands before the entries, instead of IsTruncated and a token: from the keys of the page and whether
            there are more.
        overlap: how many keys of a page the next one shows again.
        made: a page that a test has made, instead of all this.
    """

    header_tag: Callable[[str], str] = quoted
    listed_tag: Callable[[str], str] = lambda tag: f"&quot;{tag}&quot;"
    tag_of: Callable[[bytes], str] = etag_of
    knows_if_match: bool = True
    knows_start_after: bool = True
    space: str = SPACE
    encodes: bool = True
    moment: str = "2026-11-23T00:00:00.000Z"
    entry: str = (
        "<Contents><Key>{key}</Key><LastModified>{moment}</LastModified><ETag>{tag}</ETag><Size>{size}</Size>"
        "</Contents>"
    )
    more: Callable[[list[str], bool], str] = field(
        default=lambda page, more: (
            f"<IsTruncated>true</IsTruncated><NextContinuationToken>{page[-1]}</NextContinuationToken>"
            if more
            else "<IsTruncated>false</IsTruncated>"
        )
    )
    overlap: int = 0
    made: bytes | None = None

    def _reply(self, request: Request) -> tuple[int, dict[str, str], bytes]:
        asked = request.headers.get("if-match")
        body = self.objects.get(request.key)
        if body is None or "list-type" in request.query:
            return super()._reply(request)
        tag = self.header_tag(self.tag_of(body))
        if asked is not None and self.knows_if_match and asked != tag:
            return 412, {}, b"<Error><Code>PreconditionFailed</Code></Error>"
        request.headers.pop("if-match", None)
        status, headers, content = super()._reply(request)
        return status, {**headers, "etag": tag}, content

    def page(self) -> bytes:
        """The first page of the listing."""
        return self._list({})

    def _list(self, query: dict[str, str]) -> bytes:
        if self.made is not None:
            return self.made
        start = query.get("start-after", "") if self.knows_start_after else ""
        after = query.get("continuation-token") or start
        keys = [key for key in sorted(self.objects) if key > after and key.startswith(query.get("prefix", ""))]
        page = keys[: self.page_keys]
        more = self.more(page, len(keys) > len(page)) if page else ""
        if self.overlap and query.get("continuation-token"):
            page = sorted(key for key in self.objects if key <= after)[-self.overlap :] + page
        entries = "".join(
            self.entry.format(
                key=quote(key) if self.encodes else key,
                tag=self.listed_tag(self.tag_of(self.objects[key])),
                size=len(self.objects[key]),
                moment=self.moment,
            )
            for key in page
        )
        encoding = "<EncodingType>url</EncodingType>" if self.encodes else ""
        name = "ListBucketResult"
        return f"<{name}{self.space}>{encoding}{more}{entries}</{name}>".encode()
