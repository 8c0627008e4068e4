"""A folder of synthetic analytics events in files like those of Kinesis Data Firehose, for demo, tests and benchmarks.

The same arguments always produce the same files, byte for byte. All names, places and ids are invented.
"""

import gzip
import json
import os
import random
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

STREAM = "sample-events"
_BROKEN_TAIL = b'{"event_type":"pageView","attributes":{"url":"https://example.com/pri'
"""A record of a producer that crashed: neither the object nor the line is complete."""

_PAGES = (
    "home",
    "pricing",
    "blog/first-steps",
    "blog/a-look-back",
    "docs/install",
    "docs/reference",
    "about",
    "contact",
)
_COUNTRIES = {
    "DE": ("Berlin", "Köln", "München"),
    "US": ("Austin", "Boston", "Reno"),
    "JP": ("Kyōto", "Ōsaka", "Nara"),
    "BR": ("São Paulo", "Recife", "Belém"),
    "GB": ("Leeds", "York", "Bath"),
}
_DEVICES = (
    ("Apple", "iPhone", "mobile", "iOS", "26.1"),
    ("Samsung", "Galaxy S26", "mobile", "Android", "17"),
    ("", "", "desktop", "Windows", "11"),
    ("Apple", "MacBook Pro", "desktop", "macOS", "26.1"),
    ("", "", "desktop", "Linux", ""),
)
_CAMPAIGNS = (("newsletter", "email", "november"), ("search", "cpc", "brand"), ("social", "post", "launch"))
_VISITORS_AT_ONCE = 200
_SHARE_THAT_LEAVES = 0.15
_KINDS = ("pageView", "pageView", "pageView", "click", "_session.start", "_session.stop")


@dataclass(frozen=True, slots=True)
class Sample:
    """The files that were written.

    Attributes:
        files: keys, in key order.
        events: number of valid events in them.
        size_bytes: total size of the files as stored.
        broken_key: the file with one malformed record, in the middle of valid ones; None if there is none.
    """

    files: tuple[str, ...]
    events: int
    size_bytes: int
    broken_key: str | None


def make_sample_bucket(
    folder: str | Path,
    *,
    events: int = 3_000,
    files: int = 36,
    seed: int = 1,
    days: int = 3,
    until: datetime | None = None,
    broken: bool = True,
) -> Sample:
    """Write gzip files ``YYYY/MM/DD/HH/<stream>-1-YYYY-MM-DD-HH-MM-SS-<uuid>.gz`` below *folder*.

    One third of the files is newline-delimited, one third the same without a newline at the end, and one third
    concatenated, which is Firehose's default.

    Args:
        folder: created if it does not exist. Existing files are kept.
        events: number of valid events in all files together; at least as many as files.
        files: number of files, spread evenly over the days; no key has a time later than *until*.
        seed: of the random numbers: another seed gives other events and file names.
        days: how many periods of 24 hours, up to *until*.
        until: time with a time zone; now by default.
        broken: put one malformed record into one of the newline-delimited files.

    Raises:
        ValueError: fewer events than files, or fewer files than days.
    """
    if not 1 <= days <= files <= events:
        raise ValueError(f"1 <= days <= files <= events does not hold: {days}, {files}, {events}")
    chance = random.Random(seed)  # noqa: S311 (sample data)
    end = (until or datetime.now(timezone.utc)).astimezone(timezone.utc)
    step = timedelta(days=days) / files
    written: list[tuple[str, int]] = []
    broken_key = None
    for number in range(files):
        moment = end - step * (files - number) + timedelta(seconds=chance.randrange(60)) * (step > timedelta(minutes=1))
        key = _key(moment, chance)
        share = events * (number + 1) // files - events * number // files
        # The last of the newline-delimited files, so that it is among today's.
        is_broken = broken and number == (files - 1) // 3 * 3
        broken_key = key if is_broken else broken_key
        data = _framed(list(sample_events(chance, share, moment)), framing=number % 3, broken=is_broken)
        written.append((key, _write(Path(folder) / key, data)))
    keys = tuple(sorted(key for key, _ in written))
    return Sample(keys, events, sum(size for _, size in written), broken_key)


def sample_events(chance: random.Random, count: int, start: datetime) -> Iterator[bytes]:
    """*count* events starting at *start*, in the format of AWS Pinpoint's event stream: 1–2 KB of compact JSON each."""
    visitors = [_visitor(chance) for _ in range(_VISITORS_AT_ONCE)]
    first_ms = int(start.timestamp() * 1000)
    for number in range(count):
        place = chance.randrange(_VISITORS_AT_ONCE)
        if chance.random() < _SHARE_THAT_LEAVES:
            visitors[place] = _visitor(chance)
        event = _event(chance, visitors[place], first_ms + number * 97)
        yield json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()


def _framed(events: list[bytes], *, framing: int, broken: bool) -> bytes:
    if broken:
        events = [*events[: len(events) // 2], _BROKEN_TAIL, *events[len(events) // 2 :]]
    if framing == 0:
        return b"".join(event + b"\n" for event in events)
    return (b"\n" if framing == 1 else b"").join(events)


def _key(moment: datetime, chance: random.Random) -> str:
    name = uuid.UUID(int=chance.getrandbits(128), version=4)
    return f"{moment:%Y/%m/%d/%H}/{STREAM}-1-{moment:%Y-%m-%d-%H-%M-%S}-{name}.gz"


def _write(path: Path, data: bytes) -> int:
    """Write a gzip file atomically: a listing never sees a partial file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    packed = gzip.compress(data, mtime=0)
    unfinished = path.with_name(f".{path.name}.part")
    unfinished.write_bytes(packed)
    os.replace(unfinished, path)
    return len(packed)


def _visitor(chance: random.Random) -> dict[str, Any]:
    country = chance.choice(sorted(_COUNTRIES))
    make, model, kind, platform, version = chance.choice(_DEVICES)
    return {
        "endpoint": f"{chance.getrandbits(128):032x}",
        "session": f"{chance.getrandbits(64):016x}",
        "country": country,
        "city": chance.choice(_COUNTRIES[country]),
        "make": make,
        "model": model,
        "kind": kind,
        "platform": platform,
        "version": version,
        "campaign": chance.choice((None, *_CAMPAIGNS)),
        "user": f"user-{chance.randrange(100_000)}" if chance.random() < 0.4 else None,
        "views": chance.randrange(1, 40),
    }


def _event(chance: random.Random, visitor: dict[str, Any], moment_ms: int) -> dict[str, Any]:
    moment = datetime.fromtimestamp(moment_ms / 1000, timezone.utc)
    kind = chance.choice(_KINDS)
    page = chance.choice(_PAGES)
    session = {"session_id": visitor["session"], "start_timestamp": moment_ms - chance.randrange(600_000)}
    if kind == "_session.stop":
        session |= {"stop_timestamp": moment_ms, "duration": moment_ms - session["start_timestamp"]}
    return {
        "event_type": kind,
        "event_timestamp": moment_ms,
        "arrival_timestamp": moment_ms + chance.randrange(50, 3_000),
        "event_version": "3.1",
        "application": {
            "app_id": "8f2c0b6d5e1a4c3f9b7d",
            "cognito_identity_pool_id": "",
            "sdk": {},
            "version_name": "",
        },
        "client": {"client_id": visitor["endpoint"], "cognito_id": ""},
        "device": {
            "locale": {"code": "en_US", "country": "US", "language": "en"},
            "make": visitor["make"],
            "model": visitor["model"],
            "platform": {"name": visitor["platform"], "version": visitor["version"]},
        },
        "session": session,
        "attributes": _attributes(chance, visitor, page, moment),
        "metrics": {
            "scrollDepthMax": chance.randrange(101),
            "scrollDepthNow": chance.randrange(101),
            "elapsed": round(chance.expovariate(1 / 20_000), 1),
            "day": moment.isoweekday(),
            "hour": moment.hour,
            "month": moment.month,
            "year": moment.year,
        },
        "endpoint": _endpoint(visitor, moment),
        "awsAccountId": "123456789012",
    }


def _attributes(chance: random.Random, visitor: dict[str, Any], page: str, moment: datetime) -> dict[str, str]:
    attributes = {
        "date": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "session": visitor["session"],
        "pageSession": f"{chance.getrandbits(64):016x}",
        "url": f"https://example.com/{page}/?id={chance.getrandbits(40):x}",
        "hash": "",
        "referer": chance.choice(("https://search.example/?q=events", "https://example.com/", "")),
        "title": f"{page.rpartition('/')[2].replace('-', ' ').capitalize()} – Example",
        "network": "https://example.com/",
        "networkId": "1",
        "blog": "https://example.com/",
        "blogId": "7",
    }
    if visitor["campaign"]:
        source, medium, name = visitor["campaign"]
        attributes |= {"qv_utm_source": source, "qv_utm_medium": medium, "qv_utm_campaign": name}
    return attributes


def _endpoint(visitor: dict[str, Any], moment: datetime) -> dict[str, Any]:
    today = moment.date().isoformat()
    return {
        "Id": visitor["endpoint"],
        "EndpointStatus": "ACTIVE",
        "OptOut": "ALL",
        "Address": "",
        "Attributes": {
            "DeviceMake": [visitor["make"]],
            "DeviceModel": [visitor["model"]],
            "DeviceType": [visitor["kind"]],
        },
        "Metrics": {"sessions": 1 + visitor["views"] // 5, "pageViews": visitor["views"]},
        "Demographic": {
            "AppVersion": "2.14.0",
            "Locale": "en_US",
            "Make": visitor["make"],
            "Model": visitor["model"],
            "ModelVersion": "",
            "Platform": visitor["platform"],
            "PlatformVersion": visitor["version"],
        },
        "Location": {"Country": visitor["country"], "City": visitor["city"]},
        "User": {"UserId": visitor["user"] or "", "UserAttributes": {"plan": ["team"]} if visitor["user"] else {}},
        "CreationDate": f"{today}T00:00:00.000Z",
        "EffectiveDate": f"{today}T00:00:00.000Z",
        "CohortId": "42",
    }
