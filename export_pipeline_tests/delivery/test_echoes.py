"""What a destination repeats of the events is not shown."""

import pytest

from export_pipeline.delivery.echoes import HIDDEN, without_echoes

DATA = (
    b'{"user_id":"u-4711","email":"ann@example.com","amount":1234567,"note":"paid in cash"}\n'
    b'{"user_id":"u-4712","tags":["hello world"],"deep":{"card":"5500-0000"}}\n'
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://crm answered 400: bad email ann@example.com", f"https://crm answered 400: bad email {HIDDEN}"),
        ('{"error":"user_id u-4711 unknown"}', f'{{"error":"user_id {HIDDEN} unknown"}}'),
        ("amount=1234567 is too much", f"amount={HIDDEN} is too much"),
        ('{"card":"5500-0000"} is wrong', f'{{"card":"{HIDDEN}"}} is wrong'),
        ("upstream connect error, status 503", "upstream connect error, status 503"),
        ("user_id is missing, email is missing", "user_id is missing, email is missing"),
        ("", ""),
    ],
)
def test_values_of_events_are_hidden(text: str, shown: str) -> None:
    """Words that are in values of the batch's events are hidden; names of members, and all other words, stay."""
    assert without_echoes(text, DATA) == shown
