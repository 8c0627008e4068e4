"""Sample events and batches for tests."""

import json
from collections.abc import Iterable
from datetime import date
from typing import Any

from export_pipeline.batching.batch import Batch

DAY = date(2026, 11, 23)
FIRST_MS = 1_795_392_000_000  # 2026-11-23 00:00 UTC


def batch_of(events: Iterable[bytes], batch_id: str = "0f3a9c-0", *, day: date = DAY) -> Batch:
    """A batch of these events, one compact JSON object each."""
    lines = list(events)
    return Batch(
        id=batch_id,
        data=b"".join(line + b"\n" for line in lines),
        events=len(lines),
        files=(f"{day:%Y/%m/%d}/00/events-1-{day:%Y-%m-%d}-00-00-00.gz",),
        date=day,
    )


def sample_event(n: int = 0, **changes: Any) -> bytes:
    """The *n*-th of a series of events in the format of AWS Pinpoint's event stream; *changes* replace its fields."""
    event: dict[str, Any] = {
        "event_type": ("pageView", "click", "_session.start")[n % 3],
        "event_timestamp": FIRST_MS + n,
        "arrival_timestamp": FIRST_MS + n + 700,
        "event_version": "3.1",
        "application": {"app_id": "a1b2c3", "cognito_identity_pool_id": "", "sdk": {}},
        "session": {"session_id": f"session-{n // 3}", "start_timestamp": FIRST_MS},
        "attributes": {
            "url": f"https://example.com/seite/{n}?q=ä",
            "title": f"Seite {n} – Übersicht",
            "referer": "https://example.org/",
            "qv_utm_source": "newsletter",
            "blogId": "7",
        },
        "metrics": {"elapsed": 1250.0 + n, "scrollDepthMax": 80},
        "endpoint": {
            "Id": f"endpoint-{n // 3}",
            "EndpointStatus": "ACTIVE",
            "Attributes": {"DeviceMake": ["Apple"], "DeviceModel": ["iPhone"], "DeviceType": ["mobile"]},
            "Metrics": {"sessions": 2, "pageViews": 9},
            "Demographic": {"AppVersion": "2.0", "Locale": "de-DE", "Platform": "iOS", "PlatformVersion": "26.1"},
            "Location": {"Country": "DE", "City": "Köln"},
            "User": {"UserId": f"user-{n // 3}", "UserAttributes": {"plan": ["gold", "old"]}},
        },
        "awsAccountId": "123456789012",
    }
    return json.dumps({**event, **changes}, ensure_ascii=False, separators=(",", ":")).encode()


def awkward_events(largest_bytes: int) -> list[bytes]:
    """JSON objects that show whether a destination changes any byte, one of them of *largest_bytes*."""
    head, tail = b'{"event_type":"huge","text":"', b'"}'
    return [
        b"{}",
        b'{"a":1}',
        '{"text":"Straße – 日本語 – 🦔","ключ":null}'.encode(),
        rb'{"text":"Stra\u00dfe \ud83e\udd94 \/ \\ \" \u2028"}',
        b'{"big":123456789012345678901234567890,"float":1.0,"exp":1E+2,"small":-0.0}',
        b'{"same":1,"same":2}',
        b'{ "spaces" : [ 1 ,\t2 ] }',
        b'{"html":"<b>&amp;</b>","formula":"=1+1"}',
        head + b"x" * (largest_bytes - len(head) - len(tail)) + tail,
    ]


def anonymous_events() -> list[bytes]:
    """Events of visitors who never logged in: their user id is empty, blank, null, or missing."""
    users: list[Any] = [{"UserId": ""}, {"UserId": " \t"}, {"UserId": None}, {}]
    return [sample_event(n, endpoint={"Id": f"device-{n}", "User": user}) for n, user in enumerate(users)]


def half_a_pair() -> bytes:
    """An event whose ids contain an unpaired surrogate, which JSON can express and UTF-8 cannot."""
    return sample_event(50)[:-1] + rb',"id":"\ud83d","endpoint":{"Id":"\ud83d-1","User":{"UserId":"\ud83d"}}}'


def hard_events() -> list[bytes]:
    """Valid JSON objects that many parsers, databases and services fail on."""
    extras = [
        b'"n":' + b"7" * 5_000,  # more digits than Python converts
        b'"n":{"m":' + b"7" * 5_000 + b"}",
        b'"n":1e999',
        b'"n":{"m":-1e999}',
        b'"n":' + b"[" * 400 + b"1234567890123456789" + b"]" * 400,
        rb'"n":"\ud83e"',  # half of a surrogate pair
        rb'"n":{"\ud83e":"\ud83e"}',
        rb'"n":"a\u0000b","n\u0000":{"\u0000":1}',
        b'"":1," ":2,"$c":3,"a.b":4,"select":5,"_dlt_id":6,"_id":7,"_source":8',
        b'"k' + b"k" * 70_000 + b'":1',
        b'"event_timestamp":1e999',
        b'"event_timestamp":"","event_type":[]',
        b'"event_timestamp":"2026-11-28T09:00:00.250Z"',
        b'"event_timestamp":"last Tuesday"',
        b'"endpoint":{"Id":"device-a0","User":{"UserId":""}}',
        b'"event_type":404,"endpoint":{"Id":1234567,"User":{"UserId":7654321}}',
        rb'"endpoint":{"Id":"\ud83d-1","User":{"UserId":"\ud83d"}}',
        b'"event_timestamp":-1,"endpoint":null,"attributes":[1],"metrics":"x"',
    ]
    return [sample_event(n, hard=n)[:-1] + b"," + extra + b"}" for n, extra in enumerate(extras, start=100)]
