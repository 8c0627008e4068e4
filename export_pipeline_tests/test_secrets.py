"""Secrets: resolved from the environment, and kept out of texts."""

import base64
import html
import json
import os
import re
import textwrap
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from export_pipeline.errors import ConfigurationError
from export_pipeline.secrets import EnvRef, resolve, scrub

characters = st.characters(blacklist_categories=["Cs"])
secrets = st.text(characters, min_size=6, max_size=40)
around = st.text(characters, max_size=12)


def test_a_reference_is_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    """{env: NAME} stands for the variable's value at the moment it is used; plain text stands for itself."""
    monkeypatch.setenv("A_SECRET", "first")
    reference = EnvRef(env="A_SECRET")
    assert reference.resolve() == "first"
    monkeypatch.setenv("A_SECRET", "second")
    assert resolve(reference) == "second"
    assert resolve("plain") == "plain"
    assert resolve(None) is None


@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_variable_is_named(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    """A variable that is not set, or is empty, is a configuration error with its name."""
    monkeypatch.delenv("A_SECRET", raising=False)
    if value is not None:
        monkeypatch.setenv("A_SECRET", value)
    with pytest.raises(ConfigurationError, match=r"environment variable A_SECRET is (not set|empty)"):
        EnvRef(env="A_SECRET").resolve()


@pytest.mark.parametrize("given", [{"env": ""}, {"env": "A=B"}, {"env": "A", "default": "x"}, {}])
def test_what_is_no_reference(given: dict[str, str]) -> None:
    """A reference has exactly one field, which can be the name of a variable."""
    with pytest.raises(ValidationError):
        EnvRef.model_validate(given)


@given(secrets, around, around)
def test_no_spelling_of_a_secret_stays(secret: str, before: str, after: str) -> None:
    """Plain, URL-quoted, JSON-escaped, as a repr, or in base64: none of a secret's spellings outlives scrubbing."""
    spellings = [
        secret,
        quote(secret, safe=""),
        quote(secret),
        quote_plus(secret),
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        repr(secret)[1:-1],
    ]
    for spelling in spellings:
        assert spelling not in scrub(f"{before}{spelling}{after}", [secret]).replace("[secret]", "")


SECRET = "wh/sec+\"&<ü>'-🦔 of a key that is long enough to be wrapped at 64 and at 76 characters"


@pytest.mark.parametrize(
    "spell",
    [
        lambda text: json.dumps(text)[1:-1].replace("/", r"\/"),  # PHP
        lambda text: json.dumps(json.dumps(text).replace("/", r"\/"))[1:-1],  # JSON in JSON
        lambda text: json.dumps(text)[1:-1].replace(r"\u00fc", r"\u00FC"),
        lambda text: json.dumps(text, ensure_ascii=False)[1:-1].replace("&", r"\u0026").replace("<", r"\u003c"),  # Go
        html.escape,
        lambda text: html.escape(html.escape(text)),
        lambda text: "".join(f"&#{ord(character)};" for character in text),
        lambda text: "".join(f"&#X0{ord(character):X};" for character in text),
        lambda text: html.escape(text).replace("ü", "&uuml;").replace("&#x27;", "&#039;"),
        lambda text: quote(text).lower(),
        lambda text: "".join(f"%{byte:02x}" for byte in text.encode()),
        lambda text: text.encode().hex(),
        lambda text: text.encode().hex(" ").upper(),
        lambda text: "".join(rf"\x{ord(one):02x}" if one == "ü" else one for one in text),
        lambda text: base64.encodebytes(text.encode()).decode(),
        lambda text: "\r\n".join(textwrap.wrap(base64.b64encode(text.encode()).decode(), 64)),
        lambda text: json.dumps(base64.encodebytes(f"user:{text}".encode()).decode()),
        lambda text: quote(base64.b64encode(f"u:{text}".encode()).decode(), safe=""),
        lambda text: base64.b64encode(f"us:{text}".encode()).decode().replace("/", r"\/"),
    ],
)
def test_what_servers_make_of_a_secret_is_replaced_too(spell: Callable[[str], str]) -> None:
    """An echo in JSON, HTML, a URL, hexadecimal digits or wrapped base64 shows nothing of it but its ends in base64."""
    left = scrub(f"you sent {spell(SECRET)}!", [SECRET])
    assert "[secret]" in left
    assert len(left.replace("[secret]", "")) <= len("you sent !") + 20, left


@given(st.text(characters, min_size=12, max_size=40), st.binary(max_size=8), st.binary(max_size=8))
def test_base64_hides_nothing(secret: str, before: bytes, after: bytes) -> None:
    """Inside a longer base64 text, as of user:password, at most the characters at the secret's ends remain."""
    text = base64.b64encode(before + secret.encode() + after).decode()
    for encoded in (text, text.replace("+", "-").replace("/", "_")):
        left = scrub(encoded, [secret])
        assert "[secret]" in left
        # Four characters hold three bytes: those that hold a neighbour's bits too may stay.
        kept = re.sub(re.escape("[secret]"), "", left)
        outside = len(base64.b64encode(before)) + len(base64.b64encode(after)) + 8
        assert len(kept) <= outside


def test_the_longest_secret_goes_first() -> None:
    """A secret that contains another is replaced whole."""
    assert scrub("abcdefgh abcd", ["abcd", "abcdefgh"]) == "[secret] [secret]"


def test_short_values_do_not_tear_words_apart() -> None:
    """A secret under four characters is replaced only if it is the whole text, and an empty one never."""
    assert scrub("a cat", ["a", ""]) == "a cat"
    assert scrub("cat", ["cat"]) == "[secret]"
    assert scrub("nothing", []) == "nothing"


def test_settings_do_not_show_their_secrets() -> None:
    """Neither repr nor str nor a validation error of the settings shows a credential."""
    from export_pipeline.storage.settings import StoreSettings

    settings = StoreSettings(aws_access_key_id="AKIASHOWN", aws_secret_access_key="a-planted-secret")
    assert "a-planted-secret" not in repr(settings) + str(settings)
    assert settings.secrets() == ["AKIASHOWN", "a-planted-secret"]
    with pytest.raises(ValidationError) as raised:
        StoreSettings.model_validate(
            {"aws_secret_access_key": ["a-planted-secret"], "max_attempts": "a-planted-secret"}
        )
    assert "a-planted-secret" not in str(raised.value)


def test_settings_resolve_references(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials may be references; what must be kept out of texts is their value."""
    from export_pipeline.storage.settings import StoreSettings

    monkeypatch.setitem(os.environ, "THE_SECRET", "a-planted-secret")
    settings = StoreSettings.model_validate(
        {"aws_access_key_id": "AKIA", "aws_secret_access_key": {"env": "THE_SECRET"}}
    )
    assert settings.secrets() == ["AKIA", "a-planted-secret"]
