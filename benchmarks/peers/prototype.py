"""Only reading, checking and cutting, with the libraries that this project uses: the minimum that these take.

It showed what is possible before the project was written. ``python prototype.py BUCKET PREFIX OUTPUT``
"""

import os
import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import simdjson
from isal import igzip
from obstore.store import S3Store

_THREADS = 4
_FILES_AHEAD = 8
# The project's defaults.
_BATCH_EVENTS = 10_000
_BATCH_BYTES = 4_194_304


def main() -> None:
    """Export once."""
    bucket, prefix, output = sys.argv[1:]
    endpoint = os.environ["AWS_ENDPOINT_URL"]
    store = S3Store(bucket, endpoint=endpoint, client_options={"allow_http": True}, virtual_hosted_style_request=False)
    parse = simdjson.Parser().parse
    batch: list[bytes] = []
    size = 0
    with open(output, "wb") as file:
        for data in _files(store, prefix):
            lines = data.split(b"\n")
            if not lines[-1]:
                lines.pop()
            deque(map(parse, lines), maxlen=0)
            for line in lines:
                if len(batch) == _BATCH_EVENTS or size + len(line) + 1 > _BATCH_BYTES:
                    file.write(b"\n".join(batch) + b"\n")
                    batch, size = [], 0
                batch.append(line)
                size += len(line) + 1
        file.write(b"\n".join(batch) + b"\n" if batch else b"")


def _files(store: S3Store, prefix: str) -> Iterator[bytes]:
    """Every file's bytes, decompressed, in key order; a few are fetched ahead."""
    keys = sorted(entry["path"] for page in store.list(prefix) for entry in page)
    ahead: deque[Future[bytes]] = deque()
    with ThreadPoolExecutor(_THREADS) as pool:
        for key in keys:
            ahead.append(pool.submit(_fetch, store, key))
            if len(ahead) == _FILES_AHEAD:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def _fetch(store: S3Store, key: str) -> bytes:
    data: bytes = igzip.decompress(store.get(key).bytes())  # type: ignore[no-untyped-call]
    return data


if __name__ == "__main__":
    main()
