"""Batches between reading and delivering."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

import pytest
from backports import zstd

from export_pipeline.batching.staging import Staging
from export_pipeline.errors import StagingLost, StoreError
from export_pipeline.storage.objects import Objects, open_objects
from export_pipeline.storage.settings import StoreSettings
from export_pipeline_tests.servers.objects import Fault, ObjectServer, Request
from export_pipeline_tests.servers.s3 import SECRET_KEY, S3Server

DATA = b'{"a":1}\n' * 1_000


class Recorded(Objects):
    """Objects in memory, as slow and as faulty as a test wants them."""

    url = "test:"
    is_local = False

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.seconds = 0.0
        self.fails = False
        self.under_way = self.most_under_way = self.reads = 0
        self._lock = threading.Lock()

    def put(self, name: str, data: bytes) -> None:
        with self._lock:
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)
        time.sleep(self.seconds)
        with self._lock:
            self.under_way -= 1
        if self.fails:
            raise StoreError(f"{name} could not be written")
        self.objects[name] = data

    def get(self, name: str) -> bytes:
        self.reads += 1
        return self.objects[name]

    def exists(self, name: str) -> bool:
        return name in self.objects

    def list(self, prefix: str = "") -> Iterator[str]:
        return iter([name for name in self.objects if not prefix or name.startswith(prefix + "/")])

    def delete(self, name: str) -> None:
        self.objects.pop(name, None)

    def delete_prefix(self, prefix: str) -> int:
        names = [*self.list(prefix)]
        for name in names:
            del self.objects[name]
        return len(names)


@pytest.fixture(params=["folder", "moto"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    if request.param == "folder":
        return open_objects(str(tmp_path / "staging"), private=True)
    server: S3Server = request.getfixturevalue("moto")
    return open_objects(f"s3://{server.new_bucket()}/staging", StoreSettings(**server.options))


def get(staging: Staging, manifest_id: str, n: int, data: bytes) -> bytes:
    return staging.get(manifest_id, n, crc32=crc32(data), size_bytes=len(data))


def test_batches_come_back_as_they_were_put(objects: Objects) -> None:
    """All parts that were put come back byte for byte, here and in another process, and a repeat overwrites."""
    staging = Staging(objects)
    for n in range(3):
        staging.put("m1", n, b"an older try")
        staging.put("m1", n, memoryview(DATA), b"%d" % n, b"\n")
    staging.put("m2", 0)
    for manifest_id in ("m1", "m2"):
        staging.flush(manifest_id)
    for reader in (staging, Staging(objects)):
        assert [get(reader, "m1", n, DATA + b"%d\n" % n) for n in range(3)] == [DATA + b"%d\n" % n for n in range(3)]
        assert get(reader, "m2", 0, b"") == b""
        assert sorted(reader.manifests()) == ["m1", "m2"]
        assert reader.holds("m1", 3)
        assert not reader.holds("m1", 4)
        assert not reader.holds("m3", 1)
    staging.close()


def test_deleting_a_manifest(objects: Objects) -> None:
    """All batches of a manifest go away, also those still being written and those in memory; others stay."""
    staging = Staging(objects)
    staging.put("m1", 0, DATA)
    staging.put("m10", 0, DATA)
    staging.delete("m1")
    staging.delete("m1")
    assert list(staging.manifests()) == ["m10"]
    with pytest.raises(StagingLost, match="m1/0"):
        get(staging, "m1", 0, DATA)
    assert get(staging, "m10", 0, DATA) == DATA
    staging.close()


def test_other_bytes_are_not_delivered(objects: Objects) -> None:
    """A batch whose stored bytes changed, were cut or replaced raises StagingLost: it is read again instead."""
    staging = Staging(objects, cache_bytes=0)
    staging.put("m1", 0, DATA)
    staging.flush("m1")
    [name] = objects.list()
    stored = objects.get(name)
    other = DATA.replace(b"1", b"2")
    packed = other if objects.is_local else zstd.compress(other)
    for damaged in (packed, stored[:-5], stored[:-1] + b"?", b"", b"garbage", zstd.compress(DATA * 1_000)):
        objects.put(name, damaged)
        with pytest.raises(StagingLost):
            get(staging, "m1", 0, DATA)
    objects.put(name, stored)
    assert get(staging, "m1", 0, DATA) == DATA
    with pytest.raises(StagingLost):
        get(staging, "m1", 0, other)
    staging.close()


def test_folders_get_plain_bytes_and_buckets_compressed_ones(tmp_path: Path) -> None:
    """A staged batch in a folder can be looked at as it is; in a bucket it takes a fraction of its size."""
    local = Staging(open_objects(str(tmp_path)))
    local.put("m", 0, DATA)
    assert (tmp_path / "m" / "0.ndjson").read_bytes() == DATA
    bucket = Recorded()
    remote = Staging(bucket)
    remote.put("m", 0, DATA)
    remote.flush("m")
    assert zstd.decompress(bucket.objects["m/0.ndjson.zst"]) == DATA
    assert len(bucket.objects["m/0.ndjson.zst"]) < len(DATA) / 10
    remote.close()


def test_a_bucket_is_written_four_at_a_time() -> None:
    """Putting waits for no answer of the bucket until four are outstanding; flush waits for all of them."""
    objects = Recorded()
    objects.seconds = 0.1
    staging = Staging(objects)
    began = time.monotonic()
    for n in range(4):
        staging.put("m", n, DATA)
    assert time.monotonic() - began < 0.09
    for n in range(4, 12):
        staging.put("m", n, DATA)
    staging.flush("m")
    assert len(objects.objects) == 12
    assert objects.most_under_way == 4
    staging.close()


def test_a_failed_write_is_never_silent() -> None:
    """A batch that could not be written makes flush fail, or an earlier put; another manifest is not to blame."""
    objects = Recorded()
    staging = Staging(objects)
    staging.put("good", 0, DATA)
    staging.flush("good")
    objects.fails = True
    staging.put("bad", 0, DATA)
    staging.flush("good")
    with pytest.raises(StoreError, match="bad/0"):
        staging.flush("bad")
    with pytest.raises(StoreError, match="bad/"):
        _put_many(staging, "bad")
    staging.delete("bad")
    objects.fails = False
    staging.put("bad", 0, DATA)
    staging.flush("bad")
    assert get(staging, "bad", 0, DATA) == DATA
    staging.close()


def _put_many(staging: Staging, manifest_id: str) -> None:
    for n in range(20):
        staging.put(manifest_id, n, DATA)


def test_the_first_batches_need_not_be_read_back() -> None:
    """What was put into a bucket last comes from memory, as far as the cache holds: the first batches, in turn."""
    objects = Recorded()
    staging = Staging(objects, cache_bytes=len(DATA) * 2)
    for n in range(4):
        staging.put("m", n, DATA)
    for n in range(4):
        assert get(staging, "m", n, DATA) == DATA
    assert objects.reads == 2
    staging.put("next", 0, DATA)
    get(staging, "m", 0, DATA)
    assert objects.reads == 3
    staging.close()


@pytest.mark.parametrize(("broken", "comes"), [(2, True), (3, False)])
def test_a_batch_whose_body_breaks_is_read_on(broken: int, comes: bool) -> None:
    """An answer that ends half-way, as where a server dies, is asked for again up to max_attempts, and only what was
    put is ever returned: a worker needs what another has staged.
    """
    stored = zstd.compress(DATA)
    left = [Fault(cut_after_bytes=5)] * broken

    def fault(request: Request) -> Fault | None:
        return left.pop() if left and request.key else None

    with ObjectServer({"in/m/0.ndjson.zst": stored}, fault=fault) as server:
        login = {"aws_access_key_id": "a", "aws_secret_access_key": SECRET_KEY, "region_name": "us-east-1"}
        settings = StoreSettings.model_validate({"endpoint_url": server.url, "max_attempts": 3, **login})
        staging = Staging(open_objects("s3://bkt/in", settings))
        if comes:
            assert get(staging, "m", 0, DATA) == DATA
        else:
            with pytest.raises(StoreError, match=r"m/0\.ndjson\.zst could not be read"):
                get(staging, "m", 0, DATA)
        staging.close()
    assert left == []
