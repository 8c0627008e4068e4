"""Google Cloud Storage and Azure Blob Storage as sources, over the wire, against emulators."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from export_pipeline.errors import ConfigurationError, FileForbidden, FileGone, FileReplaced, ListingFailed
from export_pipeline.source.file import SourceFile
from export_pipeline.source.remote import _as_path
from export_pipeline.source.settings import SourceSettings
from export_pipeline.source.store import Source, open_source
from export_pipeline.storage.objects import open_objects
from export_pipeline.storage.settings import StoreSettings
from export_pipeline_tests.servers.objects import Fault, ObjectServer
from export_pipeline_tests.servers.other_clouds import AzureServer, GoogleServer

KEYS = ["2026-1", "2026.gz", "2026/11/23/a", "2026/11/23/b c+%20?#é漢😀", "2026/11/23/b/c", "2026/11/24/x", "~"]


@dataclass
class Cloud:
    """A new bucket, how to write into it, and the source that reads it."""

    source: Source
    put: Callable[[str, bytes], None]
    delete: Callable[[str], None]


@pytest.fixture(params=["azure", "google"])
def cloud(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    if request.param == "azure":
        azure: AzureServer = request.getfixturevalue("azure")
        azure.login(monkeypatch)
        url = f"az://{azure.new_container()}/in"
        objects = open_objects(url, StoreSettings(endpoint_url=azure.url))
        return Cloud(open_source(SourceSettings(url=url, endpoint_url=azure.url)), objects.put, objects.delete)
    google: GoogleServer = request.getfixturevalue("google")
    bucket = google.new_bucket()
    settings = SourceSettings(url=f"gs://{bucket}/in", endpoint_url=google.url, use_unsigned_session=True)
    return Cloud(
        open_source(settings),
        lambda key, content: google.put(bucket, {f"in/{key}": content}),
        lambda key: google.delete(bucket, f"in/{key}"),
    )


def read(source: Source, file: SourceFile) -> bytes:
    return b"".join(source.read_chunks(file, chunk_bytes=1_000))


@pytest.mark.parametrize(
    ("after", "prefix", "before"),
    [
        ("", "", None),
        ("2026/11/23/a", "", None),
        ("", "2026/11/2", None),
        ("2026-", "2026", "2026/11/24"),
        ("2026/11/23/b/", "2026/11/23/b", "2026/11/23/b/d"),
        ("2026//x", "", None),
        ("2026/../x", "", None),
    ],
)
def test_files_between_limits_come_in_order_and_whole(
    cloud: Cloud, after: str, prefix: str, before: str | None
) -> None:
    """Exactly the keys between the limits come, in the order of keys, and each is read by its key."""
    for key in reversed(KEYS):
        cloud.put(key, key.encode())
    files = list(cloud.source.list_files(after=after, prefix=prefix, before=before))
    assert [file.key for file in files] == [
        key for key in KEYS if key > after and key.startswith(prefix) and (before is None or key < before)
    ]
    for file in files:
        assert read(cloud.source, file) == file.key.encode()


def test_a_replaced_file_is_not_read(cloud: Cloud) -> None:
    """Other bytes under a listed key raise FileReplaced, even when they have the same length."""
    cloud.put("a", b"old bytes")
    [file] = cloud.source.list_files()
    cloud.put("a", b"new bytes")
    with pytest.raises(FileReplaced):
        read(cloud.source, file)


def test_a_deleted_file_is_gone(cloud: Cloud) -> None:
    """A listed file that was deleted raises FileGone, not FileReplaced."""
    cloud.put("a", b"x")
    [file] = cloud.source.list_files()
    cloud.delete("a")
    with pytest.raises(FileGone):
        read(cloud.source, file)


def test_azure_reads_in_parts(azure: AzureServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A blob larger than a part comes whole; a replacement between two parts is noticed."""
    azure.login(monkeypatch)
    url = f"az://{azure.new_container()}"
    objects = open_objects(url, StoreSettings(endpoint_url=azure.url))
    body = bytes(range(256)) * 20
    objects.put("a", body)
    source = open_source(SourceSettings(url=url, endpoint_url=azure.url))
    [file] = source.list_files()
    assert read(source, file) == body
    chunks = source.read_chunks(file, chunk_bytes=1_000)
    next(chunks)
    objects.put("a", body[::-1])
    with pytest.raises(FileReplaced):
        next(chunks)


def test_azure_without_the_right_key(azure: AzureServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused login fails listing and reading without showing the key."""
    azure.login(monkeypatch)
    url = f"az://{azure.new_container()}"
    open_objects(url, StoreSettings(endpoint_url=azure.url)).put("a", b"x")
    [file] = open_source(SourceSettings(url=url, endpoint_url=azure.url)).list_files()
    wrong = "d3Jvbmcga2V5IHRoYXQgaXMgc2VjcmV0IGFsbCB0aGUgc2FtZQ=="
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", wrong)
    source = open_source(SourceSettings(url=url, endpoint_url=azure.url))
    with pytest.raises(ListingFailed) as listing:
        list(source.list_files())
    with pytest.raises(FileForbidden) as reading:
        read(source, file)
    assert wrong not in str(listing.value) + str(reading.value)


def test_google_is_asked_for_bytes_as_stored() -> None:
    """Reading says that gzip is welcome, or else Google unpacks what was stored with Content-Encoding: gzip."""
    with ObjectServer({"in/a": b"x"}) as server:
        settings = SourceSettings(url="gs://bkt/in", endpoint_url=server.url, use_unsigned_session=True)
        source = open_source(settings)
        [file] = source.list_files()
        assert read(source, file) == b"x"
        assert server.requests[-1].headers["accept-encoding"] == "gzip"


def test_a_failing_listing_of_google_is_named() -> None:
    """What the store answers reaches the error, with the source's URL."""
    with ObjectServer({"in/a": b"x"}, fault=lambda request: Fault(status=503)) as server:
        settings = SourceSettings(url="gs://bkt/in", endpoint_url=server.url, use_unsigned_session=True, max_attempts=2)
        with pytest.raises(ListingFailed, match=r"gs://bkt/in could not be listed: .*503"):
            list(open_source(settings).list_files())
        assert len(server.requests) == 2


def test_keys_that_obstore_cannot_express_fail_the_listing_loudly() -> None:
    """On Google and Azure a key like a//b stops the listing with its name: no file is skipped silently."""
    with ObjectServer({"in/a//b": b"x", "in/c": b""}) as server:
        settings = SourceSettings(url="gs://bkt/in", endpoint_url=server.url, use_unsigned_session=True)
        with pytest.raises(ListingFailed, match="a//b"):
            list(open_source(settings).list_files())


def test_azure_without_an_account_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Azure's environment variables the error names what obstore wants."""
    for name in ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT_KEY"):
        monkeypatch.delenv(name, raising=False)
    source = open_source(SourceSettings(url="az://container/in"))
    with pytest.raises(ConfigurationError, match=r"az://container/in: .*[Aa]ccount"):
        list(source.list_files())


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("a/b", "a/b"),
        ("a//b", "a"),
        ("/a", ""),
        ("a/./b", "a"),
        ("a/..", "a"),
        ("a\x01", ""),
        ("a/b/", "a/b"),
        ("", ""),
    ],
)
def test_a_start_that_obstore_can_express(key: str, path: str) -> None:
    """Where a listing starts is cut to what obstore can say, which never sorts after the key."""
    assert _as_path(key) == path
    assert path <= key
