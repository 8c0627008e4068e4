"""Texts that leave a subscriber."""

import pytest

from export_pipeline.subscribers.scrubbing import excerpt, public_url, scrub


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("at https://user:pw@example.com/a", "at https://[secret]@example.com/a"),
        ("GET https://example.com/a?sig=abc&b=1 failed", "GET https://example.com/a?[secret] failed"),
        ("password=hunter2, user=me", "password=[secret], user=me"),
        ("Authorization: Bearer abc.def", "Authorization: [secret]"),
        ('{"api_key": "abc", "n": 1}', '{"api_key": "[secret]", "n": 1}'),
        ("key s3cr3t-value was refused", "key [secret] was refused"),
        ("key s3cr3t%2Dvalue", "key [secret]"),
        ("nothing to hide: 401", "nothing to hide: 401"),
    ],
)
def test_scrub(text: str, clean: str) -> None:
    """Known secrets, credentials in URLs, and what names itself a credential are replaced; all else stays."""
    assert scrub(text, ["s3cr3t-value"]) == clean


def test_long_texts_are_cut() -> None:
    """A reason has at most 1,000 characters."""
    assert len(scrub("x" * 5_000)) == 1_000


def test_public_url() -> None:
    """User, password, query and fragment are left out; the path on demand."""
    assert public_url("https://u:p@example.com:8443/a/b?c=d#e") == "https://example.com:8443/a/b"
    assert public_url("https://u:p@example.com:8443/a/b?c=d#e", path=False) == "https://example.com:8443"


def test_excerpt_is_one_line_of_at_most_500_bytes() -> None:
    """Line breaks and bytes that are not UTF-8 are harmless."""
    assert excerpt(b"a\r\n  b\xff") == "a b�"
    assert len(excerpt(b"x" * 9_999)) == 500
