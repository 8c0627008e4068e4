"""What becomes of answers that a store gives wrongly, late, or not at all."""

import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from export_pipeline.errors import (
    FileError,
    FileForbidden,
    FileGone,
    FileReplaced,
    FileUnreachable,
    ListingFailed,
)
from export_pipeline.source.file import SourceFile
from export_pipeline.source.settings import SourceSettings
from export_pipeline.source.store import Source, open_source
from export_pipeline_tests.servers.objects import Fault, ObjectServer, Request

CONTENT = bytes(range(256)) * 400
SECRET = "a-secret-of-the-test"


@pytest.fixture
def server() -> Iterator[ObjectServer]:
    with ObjectServer({"in/a": CONTENT}) as server:
        yield server


def source_of(server: ObjectServer, **options: object) -> Source:
    login = {"aws_access_key_id": "somebody", "aws_secret_access_key": SECRET, "region_name": "us-east-1"}
    given = {"url": "s3://bkt/in", "endpoint_url": server.url, **login, **options}
    return open_source(SourceSettings.model_validate(given))


def read(source: Source, file: SourceFile) -> bytes:
    return b"".join(source.read_chunks(file, chunk_bytes=30_000))


def gets(server: ObjectServer) -> list[Request]:
    return [request for request in server.requests if request.key]


def first(times: int, fault: Fault) -> Callable[[Request], Fault | None]:
    """The fault for the first requests, this many."""
    left = [fault] * times
    return lambda request: left.pop() if left else None


def always(fault: Fault) -> Callable[[Request], Fault | None]:
    return lambda request: fault


@pytest.mark.parametrize("fault", [Fault(status=503), Fault(status=500), Fault(cut_after_bytes=1_000)])
def test_a_passing_failure_is_tried_again(server: ObjectServer, fault: Fault) -> None:
    """A 5xx, or a body that ends too soon, is asked for again, and the file comes whole."""
    source = source_of(server)
    [file] = source.list_files()
    server.fault = first(2, fault)
    assert read(source, file) == CONTENT


@pytest.mark.parametrize(("attempts", "requests"), [(1, 1), (3, 3)])
def test_max_attempts_counts_the_first_request(server: ObjectServer, attempts: int, requests: int) -> None:
    """A store that goes on failing is asked max_attempts times, then the file is unreachable."""
    source = source_of(server, max_attempts=attempts)
    [file] = source.list_files()
    server.fault = always(Fault(status=503))
    with pytest.raises(FileUnreachable, match="503"):
        source.read_range(file, 0, len(CONTENT))
    assert len(gets(server)) == requests


def test_a_body_that_always_ends_too_soon_is_unreachable(server: ObjectServer) -> None:
    """A file of which only the beginning ever comes is never taken for a whole one."""
    source = source_of(server)
    [file] = source.list_files()
    server.fault = always(Fault(cut_after_bytes=1_000))
    with pytest.raises(FileUnreachable):
        read(source, file)


@pytest.mark.parametrize("part", [(0, len(CONTENT)), (10, 5_000)])
def test_an_answer_that_claims_to_be_shorter_is_refused(server: ObjectServer, part: tuple[int, int]) -> None:
    """An answer of another length than listed, with the listed etag, is a failure of the store, not another file."""
    source = source_of(server)
    [file] = source.list_files()
    server.fault = always(Fault(claimed_length=1_000))
    with pytest.raises(FileUnreachable):
        source.read_range(file, *part)


@pytest.mark.parametrize(
    ("status", "error"), [(403, FileForbidden), (401, FileForbidden), (404, FileGone), (412, FileReplaced)]
)
def test_refusals_are_told_apart(server: ObjectServer, status: int, error: type[FileError]) -> None:
    """Each refusal has its own error with the key, is not retried, and shows no secret."""
    source = source_of(server)
    [file] = source.list_files()
    server.objects = {"in/a": CONTENT + b"0"} if status == 412 else {}
    server.fault = lambda request: Fault(status=status) if request.key else None
    with pytest.raises(error) as raised:
        read(source, file)
    assert raised.value.key == "a"
    assert SECRET not in str(raised.value)
    assert len(gets(server)) == 1


def test_a_silent_store_is_given_up(server: ObjectServer) -> None:
    """A store that falls silent in the middle of a body is left after read_timeout_seconds."""
    source = source_of(server, read_timeout_seconds=0.3, max_attempts=1)
    [file] = source.list_files()
    server.fault = always(Fault(stall_seconds=5))
    began = time.monotonic()
    with pytest.raises(FileUnreachable):
        read(source, file)
    assert time.monotonic() - began < 4


def test_a_store_that_is_not_there(server: ObjectServer) -> None:
    """Where nothing listens, listing and reading say so."""
    source = source_of(server, max_attempts=1)
    [file] = source.list_files()
    away = source_of(server, max_attempts=1, endpoint_url="http://127.0.0.1:9")
    with pytest.raises(ListingFailed, match="s3://bkt/in could not be listed"):
        list(away.list_files())
    with pytest.raises(FileUnreachable):
        read(away, file)


@pytest.mark.parametrize("fault", [Fault(status=503), Fault(cut_after_bytes=300), Fault(claimed_length=300)])
def test_a_listing_is_tried_again(server: ObjectServer, fault: Fault) -> None:
    """A page that fails, or ends too soon, is asked for again: a listing never just ends there."""
    server.objects = {f"in/{n:04}": b"" for n in range(25)}
    server.page_keys = 10
    source = source_of(server, retry_mode="standard")
    server.fault = first(2, fault)
    assert [file.key for file in source.list_files()] == [f"{n:04}" for n in range(25)]


@pytest.mark.parametrize("fault", [Fault(status=503), Fault(claimed_length=300)])
def test_a_listing_that_goes_on_failing_fails(server: ObjectServer, fault: Fault) -> None:
    """After max_attempts the listing fails: what came before is not a complete listing."""
    server.objects = {f"in/{n:04}": b"" for n in range(25)}
    server.page_keys = 10
    source = source_of(server, retry_mode="standard", max_attempts=2)
    server.fault = lambda request: fault if "continuation-token" in request.query else None
    found: list[str] = []
    with pytest.raises(ListingFailed):
        found.extend(file.key for file in source.list_files())
    tries = [request for request in server.requests if "continuation-token" in request.query]
    assert len(tries) == 2


def test_a_listing_out_of_order_fails(server: ObjectServer) -> None:
    """A store that does not list in the order of keys is reported, not trusted: the cursor would skip files."""
    server.objects = {"in/b": b"", "in/a": b""}
    server.sorts = False
    with pytest.raises(ListingFailed, match="does not list in key order: 'a' came after 'b'"):
        list(source_of(server).list_files())


def test_requester_pays_is_said_with_every_request(server: ObjectServer) -> None:
    """With requester_pays, listing and reading carry the header that agrees to pay."""
    source = source_of(server, requester_pays=True)
    [file] = source.list_files()
    read(source, file)
    assert {request.headers.get("x-amz-request-payer") for request in server.requests} == {"requester"}


def test_every_part_names_the_listed_etag(server: ObjectServer) -> None:
    """A file read in parts says If-Match with each of them."""
    source = source_of(server)
    [file] = source.list_files()
    assert read(source, file) == CONTENT
    assert [request.headers["if-match"] for request in gets(server)] == [f'"{file.etag}"'] * 4
    assert len({request.headers["range"] for request in gets(server)}) == 4


@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
def test_certificates_are_checked(tmp_path: Path) -> None:
    """An unknown certificate is refused; with its CA in verify, or with verify: false, listing and reading work."""
    authority = trustme.CA()
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with ObjectServer({"in/a": CONTENT}, tls=context) as server:
        for verify in (str(bundle), False):
            source = source_of(server, verify=verify)
            [file] = source.list_files()
            assert read(source, file) == CONTENT
        source = source_of(server, max_attempts=1)
        with pytest.raises(ListingFailed, match="certificate"):
            list(source.list_files())
        with pytest.raises(FileUnreachable):
            read(source, file)
