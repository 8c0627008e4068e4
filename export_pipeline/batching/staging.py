"""Staging: where batches are kept between reading and delivery."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from io import BytesIO
from threading import BoundedSemaphore, Lock

from export_pipeline.errors import ObjectMissing, StagingLost
from export_pipeline.storage.objects import Objects

# Measured on 350 MB of NDJSON in batches of 5 MB, 2 cores. Local folder: plain is written at 3,400 MB/s and read and
# checked at 6,500; zstd -1 at 950 and 2,800. Ceph's S3 on loopback, without latency: plain 155 and 510; zstd 520 and
# 1,300, for the same CPU, since less has to be signed and sent. So folders get plain data and buckets compressed data;
# and only for buckets is it worth caching data in memory for the delivery that follows.
_ZSTD_LEVEL = 1
_PIECE_BYTES = 128 * 1024
CACHE_BYTES = 32 * 1024 * 1024
# A request to a bucket takes as long as reading several batches.
_WRITTEN_AT_ONCE = 4


class Staging:
    """Batches by manifest and number, one object each: ``<manifest id>/<n>.ndjson``, in buckets ``….ndjson.zst``.

    Args:
        objects: where they are stored.
        cache_bytes: most bytes kept in memory of what was put into a bucket.
    """

    def __init__(self, objects: Objects, *, cache_bytes: int = CACHE_BYTES) -> None:
        self._objects = objects
        self._cache = _Cache(0 if objects.is_local else cache_bytes)
        self._writer = None if objects.is_local else _Writer(objects)
        self._suffix = ".ndjson" if objects.is_local else ".ndjson.zst"

    def put(self, manifest_id: str, n: int, *parts: bytes | memoryview) -> None:
        """Keep batch *n* of a manifest, the concatenation of *parts*; a repeat overwrites it.

        It is safe only once :meth:`flush` has returned.

        Raises:
            StoreError: it, or an earlier one, could not be written.
        """
        if self._writer is None:
            self._objects.put_parts(self._name(manifest_id, n), parts)
            return
        data = b"".join(parts)
        self._cache.keep(manifest_id, n, data)
        self._writer.put(manifest_id, self._name(manifest_id, n), data)

    def flush(self, manifest_id: str) -> None:
        """Wait until everything put for a manifest has been written.

        Raises:
            StoreError: a batch could not be written.
        """
        if self._writer is not None:
            self._writer.flush(manifest_id)

    def get(self, manifest_id: str, n: int, *, crc32: int, size_bytes: int) -> bytes:
        """The batch as it was put.

        Raises:
            StagingLost: it is missing, or its bytes differ: the manifest must be read again.
            StoreError: the store failed.
        """
        data = self._cache.find(manifest_id, n)
        if data is None or _difference(data, crc32, size_bytes):
            self.flush(manifest_id)
            data = self._read(self._name(manifest_id, n), size_bytes)
            if difference := _difference(data, crc32, size_bytes):
                raise StagingLost(f"{self._objects.url}: {self._name(manifest_id, n)} has {difference}")
        return data

    def file_of(self, manifest_id: str, n: int) -> str | None:
        """Path of the file that holds the batch exactly as :meth:`get` returns it; None if staging is a bucket."""
        return self._objects.path(self._name(manifest_id, n))

    def holds(self, manifest_id: str, batches: int) -> bool:
        """Whether all batches of a manifest, *batches* in number, are here."""
        self.flush(manifest_id)
        found = set(self._objects.list(manifest_id))
        return all(self._name(manifest_id, n) in found for n in range(batches))

    def discard(self, manifest_id: str, n: int) -> None:
        """Delete one batch, so that its manifest is read again; no error if it does not exist."""
        self.flush(manifest_id)
        self._cache.forget(manifest_id)
        self._objects.delete(self._name(manifest_id, n))

    def delete(self, manifest_id: str) -> None:
        """Delete all batches of a manifest; no error if there are none."""
        if self._writer is not None:
            self._writer.settle(manifest_id)
        self._cache.forget(manifest_id)
        self._objects.delete_prefix(manifest_id)

    def manifests(self) -> Iterator[str]:
        """Ids of the manifests that have batches here, each once."""
        seen: set[str] = set()
        for name in self._objects.list():
            manifest_id = name.partition("/")[0]
            if manifest_id not in seen:
                seen.add(manifest_id)
                yield manifest_id

    def close(self) -> None:
        """Wait for pending writes, and end the threads that write."""
        if self._writer is not None:
            self._writer.close()

    def _name(self, manifest_id: str, n: int) -> str:
        return f"{manifest_id}/{n}{self._suffix}"

    def _read(self, name: str, size_bytes: int) -> bytes:
        try:
            stored = self._objects.get(name)
        except ObjectMissing as error:
            raise StagingLost(str(error)) from None
        if self._objects.is_local:
            return stored
        from backports import zstd

        try:
            # The frame declares its size: nothing larger than what was put is ever decompressed.
            if zstd.get_frame_info(stored).decompressed_size != size_bytes:
                raise StagingLost(
                    f"{self._objects.url}: {name} is not the batch of {size_bytes} bytes that was written"
                )
            return _unpacked(stored)
        except (zstd.ZstdError, EOFError) as error:
            raise StagingLost(f"{self._objects.url}: {name} is corrupt: {error}") from None


def _unpacked(stored: bytes) -> bytes:
    """The content of one zstd frame.

    Decompressed in small pieces, for each of which memory is reused: ``zstd.decompress`` collects large ones and then
    joins them, which takes four times as long for a batch of some megabytes, mostly because of page faults.

    Raises:
        ZstdError: it is corrupt.
        EOFError: it is truncated.
    """
    from backports import zstd

    unpacker, gathered, given = zstd.ZstdDecompressor(), BytesIO(), stored
    while not unpacker.eof:
        if unpacker.needs_input and not given:
            raise EOFError("it is truncated")
        gathered.write(unpacker.decompress(given, _PIECE_BYTES))
        given = b""
    return gathered.getvalue()


def _difference(data: bytes, crc32: int, size_bytes: int) -> str:
    """How *data* differs from what was written; empty if it does not."""
    from isal import isal_zlib

    if len(data) != size_bytes:
        return f"{len(data)} bytes, but {size_bytes} were written"
    found = isal_zlib.crc32(data)
    return "" if found == crc32 else f"CRC-32 {found:08x}, but {crc32:08x} was written"


class _Writer:
    """Compresses and writes in a few threads; ``put`` blocks while all of them are busy."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._free = BoundedSemaphore(_WRITTEN_AT_ONCE)
        self._pending: dict[str, dict[str, Future[None]]] = {}
        self._lock = Lock()
        self._pool = ThreadPoolExecutor(_WRITTEN_AT_ONCE, thread_name_prefix="staging")

    def put(self, manifest_id: str, name: str, data: bytes) -> None:
        self._free.acquire()
        with self._lock:
            pending = self._pending.setdefault(manifest_id, {})
            # Two writes of one name must not overtake each other.
            over = [future for other, future in pending.items() if future.done() or other == name]
            wait(over)
            kept = {other: future for other, future in pending.items() if future not in over}
            future = self._pool.submit(self._write, name, data)
            future.add_done_callback(lambda _: self._free.release())
            self._pending[manifest_id] = {**kept, name: future}
        for before in over:
            before.result()

    def flush(self, manifest_id: str) -> None:
        for future in self._taken(manifest_id):
            future.result()

    def settle(self, manifest_id: str) -> None:
        """Wait until no write is pending, whether or not the writes succeed: the result is no longer needed."""
        wait(self._taken(manifest_id))

    def close(self) -> None:
        self._pool.shutdown(wait=True)

    def _taken(self, manifest_id: str) -> list[Future[None]]:
        with self._lock:
            return list(self._pending.pop(manifest_id, {}).values())

    def _write(self, name: str, data: bytes) -> None:
        from backports import zstd

        self._objects.put(name, zstd.compress(data, _ZSTD_LEVEL))


class _Cache:
    """The first batches of the manifest that was put last: delivery begins with them."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._manifest_id = ""
        self._batches: dict[int, bytes] = {}
        self._lock = Lock()

    def keep(self, manifest_id: str, n: int, data: bytes) -> None:
        with self._lock:
            if manifest_id != self._manifest_id:
                self._manifest_id, self._batches = manifest_id, {}
            self._batches.pop(n, None)
            if sum(map(len, self._batches.values())) + len(data) <= self._max_bytes:
                self._batches[n] = data

    def find(self, manifest_id: str, n: int) -> bytes | None:
        with self._lock:
            return self._batches.get(n) if manifest_id == self._manifest_id else None

    def forget(self, manifest_id: str) -> None:
        with self._lock:
            if manifest_id == self._manifest_id:
                self._manifest_id, self._batches = "", {}
