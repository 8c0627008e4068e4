"""A bucket of S3 as a source: listed by boto3 with keys as they are, read by obstore."""

import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from functools import cached_property, partial
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from export_pipeline.errors import FileForbidden, FileGone, FileReplaced, FileUnreachable, ListingFailed
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

# obstore takes keys for paths: these it refuses, or asks for under another name.
_ODD_KEY = re.compile(r"(?:^|/)\.{0,2}(?:/|$)|[\x00-\x1f\x7f]")


class S3Source(BucketSource):
    """A bucket or access point of S3, or of a server that speaks its protocol.

    obstore, ten times as fast in reading, cannot list a bucket in which one key is like ``a//b``, and shows others
    under another name. So boto3 lists, and also reads the few files that obstore has no name for.
    """

    def __init__(self, location: Location, settings: SourceSettings) -> None:
        super().__init__(location, settings)
        self._login = AwsLogin(location, settings)
        self._layout = Layout(settings.layout)

    def list_files(self, *, after: str = "", prefix: str = "", before: str | None = None) -> Iterator[SourceFile]:
        """As :meth:`Source.list_files`. A directory bucket is listed whole and sorted in memory."""
        if self._login.is_express:
            yield from self._sorted(after, prefix, before)
            return
        last = ""
        for key, etag, size, modified in self._listed(after, prefix, before):
            if before is not None and key >= before:
                return
            if key <= last and last:
                raise ListingFailed(f"{self.url} does not list in the order of keys: {key!r} came after {last!r}")
            last = key
            if key > after and not key.endswith("/"):
                yield SourceFile(key, etag, size, modified)

    def read_range(self, file: SourceFile, start: int, stop: int) -> bytes:
        """As :meth:`Source.read_range`."""
        if _ODD_KEY.search(self._location.prefix + file.key) is None:
            return super().read_range(file, start, stop)
        return self._read_odd(file, start, stop)

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
        return SourceFile(
            key, answer["ETag"].strip('"'), answer["ContentLength"], answer["LastModified"].astimezone(timezone.utc)
        )

    def _listed(self, after: str, prefix: str, before: str | None) -> Iterator[Listed]:
        full = self._location.prefix + prefix

        def list_after(key: str) -> Page:
            return self._page(full, StartAfter=self._location.prefix + key)

        start = list_after(after) if after else self._page(full)
        tomorrow = datetime.now(timezone.utc) + timedelta(days=1)
        between = takewhile(lambda key: before is None or key < before, splits(self._layout, start, tomorrow))
        return list_ranges(start, list_after, between)

    def _page(self, prefix: str, **place: str) -> Page:
        """The page at *place* of what is below *prefix*, a full key's beginning; its keys are the source's."""
        answer = self._list(Prefix=prefix, **place)
        below = len(self._location.prefix)
        files = [(key[below:], etag, size, modified) for key, etag, size, modified in answer[FILES]]
        if not answer.get("IsTruncated"):
            return Page(files, None)
        token = answer.get("NextContinuationToken")
        if not token:
            raise ListingFailed(f"{self.url} could not be listed: a page says there are more, but not how to go on")
        return Page(files, partial(self._page, prefix, ContinuationToken=token))

    def _sorted(self, after: str, prefix: str, before: str | None) -> Iterator[SourceFile]:
        # A directory bucket takes only prefixes that end in a slash.
        full = self._location.prefix + prefix
        page: Page | None = self._page(full[: full.rfind("/") + 1])
        files: list[SourceFile] = []
        while page is not None:
            files += [
                SourceFile(*listed)
                for listed in page.files
                if listed[0] > after and listed[0].startswith(prefix) and not listed[0].endswith("/")
            ]
            page = page.rest() if page.rest else None
        files.sort(key=lambda file: file.key)
        yield from (file for file in files if before is None or file.key < before)

    def _list(self, **arguments: Any) -> Any:
        from botocore.exceptions import BotoCoreError, ClientError

        payer: Any = {"RequestPayer": "requester"} if self._settings.requester_pays else {}
        try:
            answer = self._client.list_objects_v2(Bucket=self._login.bucket, **arguments, **payer)
        except (BotoCoreError, ClientError, ValueError, KeyError) as error:
            raise ListingFailed(f"{self.url} could not be listed: {self._explain(error)}") from None
        if FILES not in answer:
            raise ListingFailed(f"{self.url} could not be listed: the answer is no listing")
        return answer

    def _read_odd(self, file: SourceFile, start: int, stop: int) -> bytes:
        from botocore.exceptions import BotoCoreError, ClientError

        arguments: Any = {"IfMatch": f'"{file.etag}"'} if file.etag else {}
        if start > 0 or stop < file.size_bytes:
            arguments["Range"] = f"bytes={start}-{stop - 1}"
        if self._settings.requester_pays:
            arguments["RequestPayer"] = "requester"
        try:
            answer = self._client.get_object(
                Bucket=self._login.bucket, Key=self._location.prefix + file.key, **arguments
            )
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


_BY_STATUS: dict[int, type[FileForbidden | FileGone | FileReplaced]] = {
    401: FileForbidden,
    403: FileForbidden,
    404: FileGone,
    412: FileReplaced,
}
