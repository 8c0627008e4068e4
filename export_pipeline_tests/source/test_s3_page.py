"""Reading a page of a listing."""

from datetime import datetime, timezone
from urllib.parse import quote_plus
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from export_pipeline.source.s3_page import _parse_page, read_page

NOON = datetime(2026, 11, 23, 12, 0, 0, tzinfo=timezone.utc)
SPACE = ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
# What XML can hold as it is.
xml_text = st.text(
    st.characters(blacklist_categories=["Cs", "Cc"], blacklist_characters="\ufffe\uffff"), min_size=1, max_size=30
)


def entry(key: str, *, etag: str = "&quot;abc&quot;", size: int = 7, extra: str = "") -> str:
    return (
        f"<Contents><Key>{key}</Key><LastModified>2026-11-23T12:00:00.000Z</LastModified>"
        f"<ETag>{etag}</ETag>{extra}<Size>{size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
    )


def page(*entries: str, encoding: str = "", space: str = SPACE, between: str = "") -> bytes:
    encoded = f"<EncodingType>{encoding}</EncodingType>" if encoding else ""
    body = between.join(["", *entries, ""])
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult{space}><Name>b</Name>{encoded}'
        f"<IsTruncated>true</IsTruncated>{body}<NextContinuationToken>t</NextContinuationToken></ListBucketResult>"
    ).encode()


@given(st.lists(xml_text, max_size=5), st.booleans())
def test_keys_come_out_as_they_went_in(keys: list[str], is_encoded: bool) -> None:
    """Every key of a page, URL-encoded or as XML has it, comes out as it is, and the rest has no entry left."""
    encode = quote_plus if is_encoded else escape
    body = page(*(entry(encode(key)) for key in keys), encoding="url" if is_encoded else "")
    files, rest = read_page(body)
    assert files == [(key, "abc", 7, NOON) for key in keys if not key.endswith("/")]
    assert b"Contents" not in rest
    assert b"<NextContinuationToken>t</NextContinuationToken>" in rest or b"NextContinuationToken>t<" in rest


@pytest.mark.parametrize(
    "body",
    [
        page(entry("a%2Bb"), entry("c+d"), encoding="url"),
        page(entry("a"), entry("b"), between="\n  "),
        page(entry("a"), entry("b"), space=""),
        page(entry("a", extra="<ChecksumAlgorithm>CRC32</ChecksumAlgorithm><ChecksumType>FULL_OBJECT</ChecksumType>")),
        page(entry("a", extra="<Owner><ID>x</ID><DisplayName>y</DisplayName></Owner>")),
        page(entry("a&amp;b"), entry("c")),
        page(entry("<![CDATA[a<b]]>")),
        page("<!-- <Contents> -->", entry("a")),
        page(entry("a", etag='"abc"')),
        page(entry("a", etag="")),
        page(entry("a").replace("<Key>", "<Size>7</Size><Key>").replace("</ETag><Size>7</Size>", "</ETag>")),
        page(),
    ],
)
def test_the_fast_way_finds_what_the_parser_finds(body: bytes) -> None:
    """Whatever shape a server gives its page, the result is that of the XML parser."""
    assert read_page(body)[0] == _parse_page(body)[0]


def test_other_spellings_of_the_time() -> None:
    """Times without milliseconds or without a zone are UTC."""
    for spelling in ("2026-11-23T12:00:00Z", "2026-11-23T12:00:00", "2026-11-23T12:00:00.000+00:00"):
        body = page(entry("a").replace("2026-11-23T12:00:00.000Z", spelling))
        assert read_page(body)[0] == [("a", "abc", 7, NOON)]


@pytest.mark.parametrize("cut", range(0, len(page(entry("a"), entry("b"))) - 1, 7))
def test_a_cut_page_is_no_page(cut: int) -> None:
    """A page that ends too soon is either refused, or what is left of it is broken XML that botocore refuses."""
    from xml.etree import ElementTree

    with pytest.raises(ElementTree.ParseError):
        ElementTree.fromstring(read_page(page(entry("a"), entry("b"))[:cut])[1])
