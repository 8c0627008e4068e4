"""Entity tags: one kept form for every spelling, and when two of them mean the same bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from export_pipeline.source.etag import are_same, clean, spellings

MD5 = "d41d8cd98f00b204e9800998ecf8427e"


@pytest.mark.parametrize("tag", [MD5, f"{MD5}-3", "0x8DCF1E5A6B7C8D9", "CJjYl9vN6oEDEAE=", "a1b2-c3", ""])
@pytest.mark.parametrize(
    "form",
    ['"{}"', "{}", "&quot;{}&quot;", "&#34;{}&#34;", "&#x22;{}&#x22;", "&#X22;{}&#X22;", "&amp;quot;{}&amp;quot;",
     'W/"{}"', "W/&quot;{}&quot;", "W/{}", 'w/"{}"', ' "{}"\n', 'W/ "{}"'],
)  # fmt: skip
def test_every_spelling_is_kept_as_one(tag: str, form: str) -> None:
    """What stands between the marks is kept, as the store wrote it."""
    assert clean(form.format(tag)) == tag
    assert are_same(form.format(tag), tag)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (MD5, MD5.upper(), True),
        (f"{MD5}-3", f'"{MD5.upper()}-3"', True),
        (f"{MD5}-3", f"{MD5}-4", False),
        (MD5, f"{MD5}-1", False),
        ("CJjYl9vN6oEDEAE=", "cjjYl9vN6oEDEAE=", False),
        ("0x8DCF1E5A", "0x8dcf1e5a", False),
        (None, "", True),
        (None, MD5, False),
    ],
)
def test_only_digits_have_no_case(one: str | None, other: str, same: bool) -> None:
    """Hexadecimal digits are the same in either case; a tag in base64 is another one."""
    assert are_same(one, other) is same


@given(st.text())
def test_what_is_kept_fits_and_stays(raw: str) -> None:
    """Whatever a store says, what is kept has room in the ledger, is text, and is kept as it is from then on."""
    kept = clean(raw)
    assert clean(kept) == kept
    assert len(kept) <= 256
    assert kept.isascii()
    assert "\0" not in kept
    assert all(are_same(kept, one) for one in spellings(kept))


def test_tags_that_the_ledger_has_no_room_for_are_told_apart() -> None:
    """A tag of a kilobyte is kept as its checksum."""
    assert clean('"' + "x" * 1_000 + '"') != clean('"' + "x" * 1_001 + '"')
    assert len(clean("x" * 1_000)) < 100
