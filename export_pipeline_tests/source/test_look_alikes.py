"""Servers that deviate from S3: their files are listed and read, or the deviation is reported."""

import re
from collections.abc import Callable

import pytest

from export_pipeline.errors import FileGone, FileReplaced, FileUnreachable, ListingFailed
from export_pipeline.source.settings import SourceSettings
from export_pipeline.source.store import Source, open_source
from export_pipeline_tests.servers.look_alikes import LookAlike, quoted
from export_pipeline_tests.servers.objects import Fault, Request, etag_of

CONTENT = b"0123456789" * 10
OBJECTS = {f"in/2026/11/{day:02}/{n}.gz": CONTENT for day in range(1, 5) for n in range(10)}


def source_of(server: LookAlike, **options: object) -> Source:
    login = {"aws_access_key_id": "somebody", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
    given = {"url": "s3://bkt/in", "endpoint_url": server.url, "max_attempts": 1, **login, **options}
    return open_source(SourceSettings.model_validate(given))


def listed(server: LookAlike) -> list[str]:
    return [f"in/{file.key}" for file in source_of(server).list_files()]


def read_all(server: LookAlike) -> None:
    """Read each file in two parts."""
    source = source_of(server)
    files = list(source.list_files())
    assert files
    for file in files:
        assert b"".join(source.read_chunks(file, chunk_bytes=60)) == CONTENT


TAGS: dict[str, tuple[Callable[[str], str], Callable[[str], str]]] = {
    "as AWS": (quoted, lambda tag: f"&quot;{tag}&quot;"),
    "decimal": (quoted, lambda tag: f"&#34;{tag}&#34;"),
    "hexadecimal": (quoted, lambda tag: f"&#x22;{tag}&#x22;"),
    "HEXADECIMAL": (quoted, lambda tag: f"&#X22;{tag}&#X22;"),
    "escaped twice": (quoted, lambda tag: f"&amp;quot;{tag}&amp;quot;"),
    "as it is": (quoted, quoted),
    "without quotes": (quoted, str),
    "without quotes at all": (str, str),
    "weak": (lambda tag: f'W/"{tag}"', lambda tag: f"W/&quot;{tag}&quot;"),
    "weak in headers": (lambda tag: f'W/"{tag}"', lambda tag: f"&quot;{tag}&quot;"),
    "weak and decimal": (lambda tag: f'W/"{tag}"', lambda tag: f"W/&#34;{tag}&#34;"),
    "upper": (lambda tag: f'"{tag.upper()}"', lambda tag: f"&quot;{tag.upper()}&quot;"),
    "upper in headers": (lambda tag: f'"{tag.upper()}"', lambda tag: f"&quot;{tag}&quot;"),
    "upper in listings": (quoted, lambda tag: f"&quot;{tag.upper()}&quot;"),
    "of parts": (lambda tag: f'"{tag}-3"', lambda tag: f"&#34;{tag}-3&#34;"),
    "spaced": (quoted, lambda tag: f"\n  &quot;{tag}&quot;\n"),
    "endless": (lambda tag: f'"{tag * 20}"', lambda tag: f"&quot;{tag * 20}&quot;"),
}


@pytest.mark.parametrize("knows_if_match", [True, pytest.param(False, marks=pytest.mark.thorough)])
@pytest.mark.parametrize("form", list(TAGS))
def test_a_tag_in_any_spelling_is_the_same(form: str, knows_if_match: bool) -> None:
    """A file whose tag was not changed is read, whatever form a server gives it in listings and in headers."""
    header, entry = TAGS[form]
    with LookAlike({"in/a": CONTENT}, header_tag=header, listed_tag=entry, knows_if_match=knows_if_match) as server:
        read_all(server)


@pytest.mark.parametrize("form", list(TAGS))
def test_other_bytes_are_found_out_in_any_spelling(form: str) -> None:
    """Content that was replaced since it was listed is never read under the old tag."""
    header, entry = TAGS[form]
    for knows_if_match in (True, False):
        with LookAlike({"in/a": CONTENT}, header_tag=header, listed_tag=entry, knows_if_match=knows_if_match) as server:
            source = source_of(server)
            [file] = source.list_files()
            server.objects["in/a"] = CONTENT[::-1]
            with pytest.raises(FileReplaced):
                source.read_range(file, 0, 10)
            del server.objects["in/a"]
            with pytest.raises(FileGone):
                source.read_range(file, 0, 10)


def test_what_a_store_calls_by_two_tags_is_never_final() -> None:
    """A response with another tag than the listing, which a new listing shows again, is retried and reported."""
    with LookAlike({"in/a": CONTENT}, header_tag=lambda tag: quoted(tag[::-1])) as server:
        source = source_of(server)
        [file] = source.list_files()
        with pytest.raises(FileUnreachable, match=r"but a new listing shows the file unchanged: it will be retried"):
            source.read_range(file, 0, 10)


def test_what_is_listed_and_cannot_be_got_is_never_final() -> None:
    """A 404 for a file that a new listing shows unchanged, and a 412 if the listing fails, are retried."""

    def fails(request: Request) -> Fault | None:
        return Fault(status=404) if request.key else None

    def fails_all(request: Request) -> Fault | None:
        return Fault(status=412 if request.key else 500)

    with LookAlike({"in/a": CONTENT}) as server:
        source = source_of(server)
        [file] = source.list_files()
        server.fault = fails
        with pytest.raises(
            FileUnreachable, match="the object does not exist, but a new listing shows the file unchanged"
        ):
            source.read_range(file, 0, 10)
        server.fault = fails_all
        with pytest.raises(FileUnreachable, match="and a new listing failed"):
            source.read_range(file, 0, 10)


def test_a_store_that_misreads_if_match_is_asked_once() -> None:
    """Once it is known that If-Match does not work, it is sent no more, and each answer's tag is compared instead."""
    with LookAlike({"in/a": CONTENT, "in/b": CONTENT}, header_tag=TAGS["weak"][0]) as server:
        source = source_of(server)
        for file in list(source.list_files()):
            assert b"".join(source.read_chunks(file, chunk_bytes=60)) == CONTENT
        assert sum("if-match" in request.headers for request in server.requests) == 1


PAGES: dict[str, dict[str, object]] = {
    "as AWS": {},
    "without a namespace": {"space": ""},
    "another namespace": {"space": ' xmlns="http://doc.s3.amazonaws.com/2006-03-01"'},
    "keys as they are": {"encodes": False},
    "without milliseconds": {"moment": "2026-11-23T00:00:00Z"},
    "nanoseconds": {"moment": "2026-11-23T00:00:00.123456789Z"},
    "a zone": {"moment": "2026-11-23T02:00:00+0200"},
    "HTTP's time": {"moment": "Mon, 23 Nov 2026 00:00:00 GMT"},
    "another order": {
        "entry": "<Contents><Size>{size}</Size><ETag>{tag}</ETag><Key>{key}</Key><LastModified>{moment}</LastModified>"
        "<Owner><ID>1</ID></Owner></Contents>"
    },
    "attributes": {
        "entry": '<Contents n="1"><Key>{key}</Key><LastModified>{moment}</LastModified><ETag>{tag}</ETag>'
        "<Size>{size}</Size></Contents>"
    },
    "keys twice": {"overlap": 1},
    "pages that overlap": {"overlap": 3, "expected": ListingFailed},
    "True": {
        "more": lambda page, more: (
            f"<IsTruncated> {more} </IsTruncated><NextContinuationToken>{page[-1]}</NextContinuationToken>"
            if more
            else ""
        )
    },
    "only a token": {
        "more": lambda page, more: f"<NextContinuationToken>{page[-1]}</NextContinuationToken>" if more else ""
    },
    "empty token": {
        "more": lambda page, more: (
            f"<IsTruncated>true</IsTruncated><NextContinuationToken>{page[-1]}</NextContinuationToken>"
            if more
            else "<IsTruncated>false</IsTruncated><NextContinuationToken/>"
        )
    },
    "start-after is not known": {"knows_start_after": False},
    "no token": {
        "more": lambda page, more: f"<IsTruncated>{str(more).lower()}</IsTruncated>",
        "expected": ListingFailed,
    },
    "one token": {
        "more": lambda page, more: (
            "<IsTruncated>true</IsTruncated><NextContinuationToken>in/2026/11/02</NextContinuationToken>"
        ),
        "expected": ListingFailed,
    },
    "no size": {
        "entry": "<Contents><Key>{key}</Key><LastModified>{moment}</LastModified><ETag>{tag}</ETag></Contents>",
        "expected": ListingFailed,
    },
    "a negative size": {
        "entry": "<Contents><Key>{key}</Key><LastModified>{moment}</LastModified><ETag>{tag}</ETag><Size>-1</Size>"
        "</Contents>",
        "expected": ListingFailed,
    },
    "no time": {
        "entry": "<Contents><Key>{key}</Key><ETag>{tag}</ETag><Size>{size}</Size></Contents>",
        "expected": ListingFailed,
    },
}


@pytest.mark.parametrize("habit", list(PAGES))
def test_every_file_is_listed_once_or_the_listing_fails(habit: str) -> None:
    """Whatever a page looks like, each file is listed once and in order, or the listing ends with an error."""
    knobs = dict(PAGES[habit])
    expected = knobs.pop("expected", None)
    with LookAlike(dict(OBJECTS), page_keys=7, **knobs) as server:  # type: ignore[arg-type]
        if expected is None:
            assert listed(server) == sorted(OBJECTS)
            assert len(list(source_of(server).list_files(after="2026/11/03"))) == 20
        else:
            with pytest.raises(ListingFailed, match=r"could not be listed|does not list in key order"):
                listed(server)


def test_pages_in_a_circle_end_with_an_error() -> None:
    """A token that comes again is named, also where the pages are empty."""
    more = "<IsTruncated>true</IsTruncated><NextContinuationToken>zzz</NextContinuationToken>"
    with LookAlike(made=f"<ListBucketResult>{more}</ListBucketResult>".encode()) as server:
        with pytest.raises(ListingFailed, match="it loops, returning the continuation token 'zzz' a second time"):
            listed(server)
        assert len(server.requests) == 2


def test_prefixes_of_namespaces_hide_no_file() -> None:
    """Entries under a prefix, as some XML writers make them, are entries."""
    with LookAlike({"in/a": CONTENT}) as server:
        prefixed = re.sub(rb"<(/?)(\w)", rb"<\1s3:\2", server.page())
        server.made = prefixed.replace(b" xmlns=", b" xmlns:s3=", 1)
        assert listed(server) == ["in/a"]


@pytest.mark.parametrize("written", [b"&#x1;", b"&#1;", b"\x01"])
def test_a_key_that_xml_cannot_hold_is_listed(written: bytes) -> None:
    """A control character, escaped or not, in a page without URL encoding; a placeholder of a folder needs no time."""
    with LookAlike({"in/a": CONTENT}, encodes=False) as server:
        server.made = server.page().replace(
            b"</ListBucketResult>",
            b"<Contents><Key>in/b" + written + b"c</Key><LastModified>2026-11-23T00:00:00Z</LastModified>"
            b"<ETag>x</ETag><Size>1</Size></Contents><Contents><Key>in/d/</Key></Contents></ListBucketResult>",
        )
        assert listed(server) == ["in/a", "in/b\x01c"]


def test_a_size_is_asked_for_by_name() -> None:
    """The error names the first entry that lacks something, so that a user can look at it."""
    with (
        LookAlike({"in/a": CONTENT}, entry=str(PAGES["no size"]["entry"])) as server,
        pytest.raises(ListingFailed, match=r"the entry of in/a has an invalid size in bytes: nothing"),
    ):
        listed(server)


def test_a_listed_file_is_known_by_its_tag() -> None:
    """The tag that is kept is what stands between the marks."""
    for form, (_, entry) in TAGS.items():
        with LookAlike({"in/a": CONTENT}, listed_tag=entry) as server:
            [file] = source_of(server).list_files()
            if form not in ("of parts", "endless"):
                assert file.etag.lower() == etag_of(CONTENT)
