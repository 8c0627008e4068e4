"""Detect output inside the source: what is written there would be read as new files, in an endless loop."""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from export_pipeline.configuration.document import Place, Problem
from export_pipeline.configuration.places import absolute_url
from export_pipeline.configuration.subscribers import SubscriberEntry
from export_pipeline.configuration.validation import DeploymentDraft
from export_pipeline.errors import ConfigurationError
from export_pipeline.storage.location import Location, parse_location

_OWN = ("staging", "quarantine", "ledger")
"""Sections whose url says where this project keeps something."""
_CONSEQUENCE = "files written there would be read as new files, in an endless loop; allowed: a place outside the source"
_SOURCE: Place = ("source", "url")
_AWS = re.compile(r"(^|\.)amazonaws\.com(\.cn)?$")
_THIS_MACHINE = frozenset({"localhost", "127.0.0.1", "::1", "0.0.0.0"})  # noqa: S104 (as a name, nothing listens)
_DIRECTIVE = re.compile(r"%([-_0^#]?[A-Za-z])|%%")
_OF_LETTERS = frozenset("aAbBpZcxXDF")
"""Directives of strftime that produce more than digits."""


def loop_problems(draft: DeploymentDraft, subscribers: Mapping[str, SubscriberEntry], root: Path) -> Iterator[Problem]:
    """Every URL below which a subscriber, or this project itself, would write files that the source lists.

    Args:
        draft: a file without other problems.
        root: where relative paths start.
    """
    source = _location(draft.value(_SOURCE), root)
    if source is None:
        return
    for name in _OWN:
        url = draft.value((name, "url"))
        target = _location(url.removeprefix("sqlite:///"), root) if isinstance(url, str) else None
        if target is None or not _is_one_store(source, target, draft, (name,)) or _is_hidden(source, target):
            continue
        if (why := _overlap(source, target, None)) is not None:
            yield draft.problem((name, "url"), f"found {target.url}, {why} source.url ({source.url}): {_CONSEQUENCE}")
    for entry in subscribers.values():
        above: Place = ("subscribers", entry.name)
        options = {option: draft.value((*above, option)) for option in entry.options}
        patterns = entry.resource_class.name_patterns(options)
        for option, url in entry.resource_class.folders(options).items():
            target = _location(url, root) if option in options else None
            if target is None or not _is_one_store(source, target, draft, above):
                continue
            if (why := _overlap(source, target, patterns.get(option))) is not None:
                yield draft.problem(
                    (*above, option),
                    f"found {target.url}, {why} source.url ({source.url}): {_CONSEQUENCE}",
                )


def _is_hidden(source: Location, target: Location) -> bool:
    """Whether *target* is in a hidden folder of the source, such as ``.dagster``: nothing is read there."""
    outer, inner = _parts(source), _parts(target)
    return inner[: len(outer)] == outer and any(part.startswith(".") for part in inner[len(outer) :])


def _overlap(source: Location, target: Location, pattern: str | None) -> str | None:
    """How files written below *target* end up in *source*, as part of a sentence; None if they do not."""
    outer, inner = _parts(source), _parts(target)
    if inner == outer or (source.scheme == "file" and _is_one_folder(source, target)):
        return "which is"
    if inner[: len(outer)] == outer or (source.scheme == "file" and _holds(source, target)):
        return "which is inside"
    if pattern is not None and outer[: len(inner)] == inner and _may_lead_to(outer[len(inner) :], pattern):
        return f"where path {pattern!r} leads into"
    return None


def _may_lead_to(parts: list[str], pattern: str) -> bool:
    """Whether names that match the strftime *pattern* can be below the folders *parts*."""
    folders = [folder for folder in pattern.split("/")[:-1] if folder not in ("", ".")]
    return len(folders) >= len(parts) and all(
        re.fullmatch(_DIRECTIVE.sub(_value, re.escape(folder).replace(r"\-", "-")), part)
        for folder, part in zip(folders, parts, strict=False)
    )


def _value(directive: "re.Match[str]") -> str:
    if directive[1] is None:
        return "%"
    return "[^/]*" if directive[1][-1] in _OF_LETTERS else "[0-9]+"


def _is_one_store(source: Location, target: Location, draft: DeploymentDraft, above: Place) -> bool:
    """Whether both URLs are in the same store: the same bucket of the same server, or this machine's files."""
    if source.scheme != target.scheme or source.bucket.lower() != target.bucket.lower():
        return False
    if source.scheme != "s3":
        return True
    servers = [draft.value((*place, "endpoint_url")) for place in (("source",), above)]
    return _server(servers[0]) == _server(servers[1])


def _server(endpoint_url: object) -> str:
    """The normalized address of an S3 server; all of AWS is one, since bucket names are unique in AWS."""
    text = endpoint_url or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if not isinstance(text, str) or not text:
        return "aws"
    try:
        parts = urlsplit(text)
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        return text
    if _AWS.search(host):
        return "aws"
    return f"{'localhost' if host in _THIS_MACHINE else host}:{port or {'http': 80}.get(parts.scheme, 443)}"


def _parts(location: Location) -> list[str]:
    """The folders of its prefix, without empty ones, ``.`` and ``..``; symbolic links of this machine are followed."""
    prefix = os.path.realpath(location.prefix) if location.scheme == "file" else location.prefix
    parts: list[str] = []
    for part in prefix.split("/"):
        if part == "..":
            parts[-1:] = []
        elif part not in ("", "."):
            parts.append(part)
    return parts


def _is_one_folder(source: Location, target: Location) -> bool:
    """Whether both are the same folder under two names, such as on a case-insensitive file system."""
    return _same(Path(source.prefix), Path(target.prefix))


def _holds(source: Location, target: Location) -> bool:
    return any(_same(Path(source.prefix), above) for above in Path(target.prefix).parents)


def _same(one: Path, other: Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False  # one of them does not exist yet


def _location(url: object, root: Path) -> Location | None:
    try:
        return parse_location(absolute_url(url, root)) if isinstance(url, str) else None
    except ConfigurationError:
        return None  # not a folder in a store, such as a destination's URL
