"""S3 buckets as a source: listed by boto3 with unchanged keys, read by obstore."""

import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from functools import cached_property, partial
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from export_pipeline.errors import FileForbidden, FileGone, FileReplaced, FileUnreachable, ListingFailed
from export_pipeline.source.etag import clean
from export_pipeline.source.file import SourceFile
from export_pipeline.source.layout import Layout
from export_pipeline.source.listing import Page, list_ranges, splits
from export_pipeline.source.remote import BucketSource, by_code
from export_pipeline.source.s3_page import FILES, Listed, read_pages_fast
from export_pipeline.source.settings import SourceSettings
from export_pipeline.storage.aws import AwsLogin
from export_pipeline.storage.location import Location

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from obstore.store import AzureStore, GCSStore, S3Store

# obstore treats keys as paths: it rejects these, or requests them under another name.
_ODD_KEY = re.compile(r"(?:^|/)\.{0,2}(?:/|$)|[\x00-\x1f\x7f]")

_NOT_PARTIAL = "non-partial response"
"""obstore's error for a part that is sent with the status of a whole object."""
_BY_STATUS: dict[int, type[FileForbidden | FileGone | FileReplaced]] = {
    401: FileForbidden,
    403: FileForbidden,
    404: FileGone,
    412: FileReplaced,
}


class S3Source(BucketSource):
    """A bucket or access point of S3, or of a server that speaks its protocol.

    obstore, which reads ten times as fast, cannot list a bucket that has a key like ``a//b``, and shows other keys
    under another name. So boto3 lists, and also reads the few files that obstore cannot name.
    """

    def __init__(self, location: Location, settings: SourceSettings) -> None:
        super().__init__(location, settings)
        self._login = AwsLogin(location, settings)
        self._layout = Layout(settings.layout)
        # Until a page begins before the key it should begin after.
        self._knows_start_after = True
        # Until a part of an object is sent as if it were the whole: rclone answers 200, which obstore rejects.
        self._mislabels_ranges = False

    def list_all(self, *, after: str = "", prefix: str = "", before: str | None = None) -> Iterator[SourceFile]:
        """As :meth:`Source.list_all`. A directory bucket is listed whole and sorted in memory."""
        if self._login.is_express:
            yield from self._sorted(after, prefix, before)
            return
        last = ""
        for key, etag, size, modified in self._listed(after, prefix, before):
            if before is not None and key >= before:
                return
            if key < last:
                raise ListingFailed(f"{self.url} does not list in key order: {key!r} came after {last!r}")
            # Some servers show a key twice: at the end of one page and at the beginning of the next.
            is_new, last = key != last, key
            if key > after and is_new:
                yield SourceFile(key, etag, size, modified)

    def _read(self, file: SourceFile, start: int, stop: int, *, is_pinned: bool) -> bytes:
        if _ODD_KEY.search(self._location.prefix + file.key) is None and not self._mislabels_ranges:
            try:
                return super()._read(file, start, stop, is_pinned=is_pinned)
            except FileUnreachable as error:
                if _NOT_PARTIAL not in error.reason:
                    raise
                self._mislabels_ranges = True
        return self._read_odd(file, start, stop, is_pinned=is_pinned)

    def find_file(self, key: str) -> SourceFile | None:
        """As :meth:`Source.find_file`, by HEAD, which costs a twelfth of a listing."""
        from botocore.exceptions import BotoCoreError, ClientError

        payer: Any = {"RequestPayer": "requester"} if self._settings.requester_pays else {}
        try:
            answer = self._client.head_object(Bucket=self._login.bucket, Key=self._location.prefix + key, **payer)
        except ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            kind = _BY_STATUS.get(status or 0, FileUnreachable)
            if kind is FileGone:
                return None
            raise kind(key, self._explain(error)) from None
        except (BotoCoreError, ValueError) as error:
            raise FileUnreachable(key, self._explain(error)) from None
        try:
            modified = answer["LastModified"].astimezone(timezone.utc)
            return SourceFile(key, clean(answer.get("ETag")), answer["ContentLength"], modified)
        except KeyError as error:
            raise FileUnreachable(key, f"the store's answer lacks {error}") from None

    def _listed(self, after: str, prefix: str, before: str | None) -> Iterator[Listed]:
        full = self._location.prefix + prefix

        def list_after(key: str) -> Page:
            page = self._page(full, set(), StartAfter=self._location.prefix + key)
            if page.files and page.files[0][0] <= key:
                self._knows_start_after = False
            return page if self._knows_start_after else _behind(page, key)

        def is_range(key: str) -> bool:
            # If the server begins each range at the first key of the bucket, it is listed once, from there to the end.
            return self._knows_start_after and (before is None or key < before)

        start = list_after(after) if after else self._page(full, set())
        tomorrow = datetime.now(timezone.utc) + timedelta(days=1)
        return list_ranges(start, list_after, takewhile(is_range, splits(self._layout, start, tomorrow)))

    def _page(self, prefix: str, tokens: set[str], **place: str) -> Page:
        """The page at *place* of the keys that begin with *prefix*, a full key's prefix; its keys are the source's.

        Args:
            tokens: the continuation tokens that led here; the next one is added.
        """
        answer = self._list(Prefix=prefix, **place)
        below = self._location.prefix
        files = [(key[len(below) :], etag, size, modified) for key, etag, size, modified in answer[FILES]]
        strange = next((key for key, *_ in answer[FILES] if not key.startswith(prefix)), None)
        if strange is not None:
            raise ListingFailed(f"{self.url} could not be listed: asked for keys below {prefix!r}, got {strange!r}")
        token = answer.get("NextContinuationToken")
        if not token:
            if answer.get("IsTruncated"):
                raise ListingFailed(f"{self.url} could not be listed: a truncated page has no continuation token")
            return Page(files, None)
        if token in tokens:
            raise ListingFailed(
                f"{self.url} could not be listed: it loops, returning the continuation token {token!r} a second time"
            )
        tokens.add(token)
        return Page(files, partial(self._page, prefix, tokens, ContinuationToken=token))

    def _sorted(self, after: str, prefix: str, before: str | None) -> Iterator[SourceFile]:
        # A directory bucket accepts only prefixes that end in a slash.
        full = self._location.prefix + prefix
        page: Page | None = self._page(full[: full.rfind("/") + 1], set())
        files: list[SourceFile] = []
        while page is not None:
            files += [
                SourceFile(*listed) for listed in page.files if listed[0] > after and listed[0].startswith(prefix)
            ]
            page = page.rest() if page.rest else None
        files.sort(key=lambda file: file.key)
        yield from (file for file in files if before is None or file.key < before)

    def _list(self, **arguments: Any) -> Any:
        from botocore.exceptions import BotoCoreError, ClientError

        payer: Any = {"RequestPayer": "requester"} if self._settings.requester_pays else {}
        try:
            answer = self._client.list_objects_v2(Bucket=self._login.bucket, **arguments, **payer)
        except (BotoCoreError, ClientError, ValueError, LookupError) as error:
            raise ListingFailed(f"{self.url} could not be listed: {self._explain(error)}") from None
        if FILES not in answer:
            raise ListingFailed(f"{self.url} could not be listed: the response is not a listing")
        return answer

    def _read_odd(self, file: SourceFile, start: int, stop: int, *, is_pinned: bool) -> bytes:
        from botocore.exceptions import BotoCoreError, ClientError

        arguments: Any = {"IfMatch": f'"{clean(file.etag)}"'} if file.etag and is_pinned else {}
        if start > 0 or stop < file.size_bytes:
            arguments["Range"] = f"bytes={start}-{stop - 1}"
        if self._settings.requester_pays:
            arguments["RequestPayer"] = "requester"
        try:
            answer = self._client.get_object(
                Bucket=self._login.bucket, Key=self._location.prefix + file.key, **arguments
            )
            if "Range" in arguments and "ContentRange" not in answer:
                raise FileUnreachable(file.key, "the store sent the whole object where a part was requested")
            total = answer.get("ContentRange", "").rpartition("/")[2] or answer["ContentLength"]
            self._check_identity(file, answer.get("ETag"), int(total))
            data: bytes = answer["Body"].read()
        except ClientError as error:
            if (found := by_code(file.key, error.response.get("Error", {}).get("Code", ""))) is not None:
                raise found from None
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            raise _BY_STATUS.get(status or 0, FileUnreachable)(file.key, self._explain(error)) from None
        except BotoCoreError as error:
            raise FileUnreachable(file.key, self._explain(error)) from None
        self._check_length(file, data, start, stop)
        return data

    @cached_property
    def _client_with_fast_pages(self) -> "S3Client":
        client = self._login.client
        read_pages_fast(client)
        return client

    @property
    def _client(self) -> "S3Client":
        with self._opening:
            return self._client_with_fast_pages

    @cached_property
    def _opened(self) -> "S3Store | GCSStore | AzureStore":
        from export_pipeline.storage.remote import open_store

        return open_store(self._location, self._settings, self._login)


def _behind(page: Page, key: str) -> Page:
    """*page* and the pages after it, without the files up to *key*."""
    rest = page.rest
    return Page([file for file in page.files if file[0] > key], rest and (lambda: _behind(rest(), key)))
