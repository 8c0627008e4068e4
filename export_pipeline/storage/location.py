"""Parses the URL of a store, and normalises its spelling."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from export_pipeline.errors import ConfigurationError

ALLOWED = (
    "s3://bucket/prefix, arn:aws:s3:::bucket/prefix, the ARN of an access point, gs://bucket/prefix, "
    "az://container/prefix, file:///absolute/path, or a path"
)
_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://")
_BUCKET = re.compile(r"^[A-Za-z0-9._-]{1,255}$")
_BUCKET_ARN = re.compile(r"^arn:(aws[a-z0-9-]*):s3:::([^/:]+)(?:/(.*))?$", re.DOTALL)
_ACCESS_POINT_ARN = re.compile(
    r"^arn:(aws[a-z0-9-]*):s3:([a-z0-9-]+):(\d{12}):accesspoint/([a-z0-9][a-z0-9-]{1,48}[a-z0-9])(?:/(?:object/)?(.*))?$",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Location:
    """A folder in a store.

    Attributes:
        scheme: ``s3``, ``gs``, ``az`` or ``file``.
        bucket: bucket, container, or ARN of an access point; empty for ``file``.
        prefix: what every key begins with: empty, or text that ends in ``/``. For ``file`` the absolute folder, without
            a trailing slash.
    """

    scheme: str
    bucket: str
    prefix: str

    @property
    def url(self) -> str:
        """The same for every spelling of the same place, without a trailing slash."""
        if self.scheme == "file":
            return Path(self.prefix).as_uri()
        # A prefix that ends in an empty part differs from the one without it.
        end = self.prefix if self.prefix.endswith("//") or self.prefix == "/" else self.prefix.removesuffix("/")
        return f"{self.scheme}://{self.bucket}/{end}" if end else f"{self.scheme}://{self.bucket}"


def parse_location(url: str) -> Location:
    """The folder that *url* names; a relative path is relative to the working directory.

    Text after the bucket is literal: ``%20`` means these three characters, as in the AWS CLI. Only in ``file://`` URLs
    does it mean a space, as RFC 8089 defines.

    Raises:
        ConfigurationError: it has none of the supported forms.
    """
    if url.startswith("arn:"):
        return _from_arn(url)
    if url.startswith("file:"):
        return _from_file_url(url)
    match = _SCHEME.match(url)
    if match is None:
        return _folder(url)
    scheme = match[1].lower()
    if scheme not in {"s3", "gs", "az"}:
        raise ConfigurationError(f"URL with {match[1]}:// is not supported; allowed: {ALLOWED}")
    bucket, _, prefix = url[match.end() :].partition("/")
    if "@" in bucket:
        raise ConfigurationError(f"{scheme}:// URL contains credentials; configure them by their own options")
    if not _BUCKET.match(bucket):
        raise ConfigurationError(f"{scheme}://{bucket} does not name a bucket; allowed: {ALLOWED}")
    return Location(scheme, bucket, _as_folder(prefix))


def _from_arn(arn: str) -> Location:
    if match := _BUCKET_ARN.match(arn):
        return Location("s3", match[2], _as_folder(match[3] or ""))
    if match := _ACCESS_POINT_ARN.match(arn):
        access_point = f"arn:{match[1]}:s3:{match[2]}:{match[3]}:accesspoint/{match[4]}"
        return Location("s3", access_point, _as_folder(match[5] or ""))
    raise ConfigurationError(f"{arn} is neither the ARN of an S3 bucket nor of an access point; allowed: {ALLOWED}")


def _from_file_url(url: str) -> Location:
    rest = url.removeprefix("file:")
    if not rest.startswith("//"):
        return _folder(unquote(rest))
    parts = urlsplit(url)
    if parts.netloc not in {"", "localhost"}:
        raise ConfigurationError(f"{url} names the host {parts.netloc}; a file URL has three slashes: file:///path")
    return _folder(unquote(url.removeprefix("file://").removeprefix(parts.netloc)))


def _folder(path: str) -> Location:
    if not path or "\0" in path:
        raise ConfigurationError(f"{path!r} is not a folder's path; allowed: {ALLOWED}")
    return Location("file", "", os.path.abspath(os.path.expanduser(path)))


def _as_folder(prefix: str) -> str:
    return prefix if not prefix or prefix.endswith("/") else prefix + "/"
