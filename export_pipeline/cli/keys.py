"""Which file a person means: a key, a key with the source's prefix, a URL, an ARN, or a path."""

import os

from export_pipeline.errors import ConfigurationError
from export_pipeline.storage.location import Location, parse_location


def keys_meant(text: str, source: Location) -> list[str]:
    """The keys below *source* that *text* may mean, the likeliest first; never empty.

    Raises:
        ConfigurationError: it is a URL or an ARN of another place, or names no file.
    """
    if text.startswith("arn:") or "://" in text:
        return [_below(text, source)]
    found = []
    if source.scheme == "file":
        path = os.path.abspath(text)
        inside = os.path.join(source.prefix, "")
        # A path of the shell counts where it leads to something, else the text is a key.
        if path.startswith(inside) and (os.path.isabs(text) or os.path.exists(path)):
            found.append(path[len(inside) :])
    key = text.lstrip("/")
    if source.prefix and source.scheme != "file" and key.startswith(source.prefix):
        found.append(key[len(source.prefix) :])
    found = [one for one in dict.fromkeys([*found, key]) if one]
    if not found:
        raise ConfigurationError(f"{text!r} names no file; allowed: a key, or a URL below {source.url}")
    return found


def _below(text: str, source: Location) -> str:
    location = parse_location(text)
    if location.scheme == "file":
        folder, path = os.path.join(source.prefix, ""), location.prefix
    else:
        folder, path = source.prefix, location.prefix.removesuffix("/")
    same_place = (location.scheme, location.bucket) == (source.scheme, source.bucket)
    if not same_place or not path.startswith(folder) or path == folder:
        raise ConfigurationError(f"{text} does not lie below this deployment's source, {source.url}")
    return path[len(folder) :]
