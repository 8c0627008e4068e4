"""Objects in folders and buckets."""

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from export_pipeline.errors import ConfigurationError, ObjectMissing, StoreError
from export_pipeline.storage.objects import Objects, open_objects
from export_pipeline.storage.settings import StoreSettings
from export_pipeline_tests.servers.objects import Fault, ObjectServer
from export_pipeline_tests.servers.other_clouds import AzureServer
from export_pipeline_tests.servers.programs import free_port
from export_pipeline_tests.servers.s3 import SECRET_KEY, S3Server


@pytest.fixture(params=["folder", "moto", "ceph", "rclone", "azure"])
def objects(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Objects:
    """An empty folder of objects, in every kind of store that can be written here."""
    if request.param == "folder":
        return open_objects(str(tmp_path / "objects"))
    if request.param == "azure":
        azure: AzureServer = request.getfixturevalue("azure")
        azure.login(monkeypatch)
        return open_objects(f"az://{azure.new_container()}/below/here", StoreSettings(endpoint_url=azure.url))
    server: S3Server = request.getfixturevalue(request.param)
    return open_objects(f"s3://{server.new_bucket()}/below/here", StoreSettings(**server.options))


def test_what_is_put_is_there(objects: Objects) -> None:
    """An object has exactly the bytes put last, under exactly its name; empty ones and odd names too."""
    names = ["a", "b/c", "b/d e+%20é漢😀", "b/c.d/~x", "long/" + "n" * 200]
    for name in names:
        assert not objects.exists(name)
        objects.put(name, b"old and longer")
        objects.put(name, name.encode())
    objects.put("empty", b"")
    assert objects.get("empty") == b""
    for name in names:
        assert objects.exists(name)
        assert objects.get(name) == name.encode()
    assert sorted(objects.list()) == sorted([*names, "empty"])


def test_large_objects(objects: Objects) -> None:
    """An object of 20 MB comes back whole."""
    body = bytes(range(256)) * 80_000
    objects.put("big", body)
    assert objects.get("big") == body


def test_a_missing_object(objects: Objects) -> None:
    """Reading a missing object raises ObjectMissing with its name; deleting it is not an error."""
    with pytest.raises(ObjectMissing, match="nothing/here"):
        objects.get("nothing/here")
    objects.delete("nothing/here")
    assert objects.delete_prefix("nothing") == 0
    assert list(objects.list()) == []
    assert list(objects.list("nothing")) == []


def test_deleting(objects: Objects) -> None:
    """One object, or all below a folder, go away; what only begins with the same letters stays."""
    for name in ("m1/0", "m1/1", "m1/deep/er", "m10/0", "m1.x", "other"):
        objects.put(name, b"x")
    assert sorted(objects.list("m1")) == ["m1/0", "m1/1", "m1/deep/er"]
    objects.delete("m1/0")
    assert sorted(objects.list("m1/")) == ["m1/1", "m1/deep/er"]
    assert objects.delete_prefix("m1") == 2
    assert sorted(objects.list()) == ["m1.x", "m10/0", "other"]
    assert objects.delete_prefix("") == 3
    assert list(objects.list()) == []
    objects.put("m1/0", b"again")
    assert objects.get("m1/0") == b"again"


@pytest.mark.parametrize("name", ["", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/./b", "a\0b"])
def test_names_that_lead_elsewhere(objects: Objects, name: str) -> None:
    """A name that could leave the folder, or that some store would change, is refused for every use."""
    for use in (objects.get, objects.exists, objects.delete, lambda name: objects.put(name, b"x")):
        with pytest.raises(StoreError, match="is not a valid object name"):
            use(name)


def test_more_than_a_thousand_objects(s3: S3Server) -> None:
    """Listing and deleting go beyond the 1,000 names that S3 gives or takes at once."""
    objects = open_objects(f"s3://{s3.new_bucket()}", StoreSettings(**s3.options))
    threads = [
        threading.Thread(target=lambda part=part: [objects.put(f"d/{part}-{n}", b"") for n in range(201)])
        for part in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(objects.list("d"))) == 1_005
    assert objects.delete_prefix("d") == 1_005
    assert list(objects.list()) == []


def test_modes_of_a_private_folder(tmp_path: Path) -> None:
    """Nobody else may read a private folder: every folder made is 0700, every file 0600, whatever the umask."""
    before = os.umask(0)
    try:
        open_objects(str(tmp_path / "a" / "b"), private=True).put("c/d", b"x")
        open_objects(str(tmp_path / "open")).put("d", b"x")
    finally:
        os.umask(before)
    modes = {
        path: stat.S_IMODE((tmp_path / path).stat().st_mode) for path in ("a", "a/b", "a/b/c", "a/b/c/d", "open/d")
    }
    assert modes == {"a": 0o700, "a/b": 0o700, "a/b/c": 0o700, "a/b/c/d": 0o600, "open/d": 0o666}


_ENDLESS_WRITER = """
import sys
from export_pipeline.storage.objects import open_objects
objects = open_objects(sys.argv[1])
bodies = [bytes([n]) * 3_000_000 for n in (1, 2)]
print("ready", flush=True)
while True:
    for body in bodies:
        objects.put("a", body)
"""


def test_a_reader_never_sees_half_an_object(tmp_path: Path) -> None:
    """While another process overwrites an object, and when it is killed, the object is always a whole one."""
    objects = open_objects(str(tmp_path))
    command = [sys.executable, "-c", _ENDLESS_WRITER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        while not objects.exists("a"):
            pass
        seen: set[int] = set()
        readings = 0
        # At least so often, and on a busy machine as long as it takes until both contents were seen.
        while readings < 200 or seen != {1, 2}:
            readings += 1
            body = objects.get("a")
            assert len(body) == 3_000_000
            assert len(set(body[::1000])) == 1
            seen.add(body[0])
        writer.kill()
    assert seen == {1, 2}
    assert len(objects.get("a")) == 3_000_000
    assert list(objects.list()) == ["a"], "what the killed one left unfinished is no object"


def test_a_durable_object_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With durable, the file is synchronised before it gets its name, and its folder after that."""
    done: list[str] = []
    fsync, replace = os.fsync, os.replace

    def recording_fsync(descriptor: int) -> None:
        done.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def recording_replace(old: str, new: str) -> None:
        done.append("rename")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", recording_fsync)
    monkeypatch.setattr(os, "replace", recording_replace)
    open_objects(str(tmp_path)).put("a", b"x")
    assert done == ["rename"]
    open_objects(str(tmp_path), durable=True).put("b", b"x")
    assert done == ["rename", "file", "rename", "folder"]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """If a file is in the way, the error names the place and the reason, and nothing unfinished is left."""
    (tmp_path / "file").write_bytes(b"x")
    objects = open_objects(str(tmp_path))
    with pytest.raises(StoreError, match=r"file/a could not be written: Not a directory"):
        objects.put("file/a", b"x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreError, match="folder could not be written: Is a directory"):
        objects.put("folder", b"x")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_a_full_disk(tmp_path: Path) -> None:
    """When the disk takes no more, put fails with the reason, and neither the object nor a half of it is there."""
    script = (
        "import resource, signal, sys\n"
        "from export_pipeline.storage.objects import open_objects\n"
        "from export_pipeline.errors import StoreError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n    open_objects(sys.argv[1]).put('a', b'x' * 5000)\n"
        "except StoreError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    assert "a could not be written: File too large" in done.stdout
    assert os.listdir(tmp_path) == []


def test_a_store_that_fails() -> None:
    """What a bucket answers reaches the error with URL and name, and no secret."""
    with ObjectServer(fault=lambda request: Fault(status=503)) as server:
        settings = StoreSettings(
            endpoint_url=server.url, aws_access_key_id="a", aws_secret_access_key=SECRET_KEY, max_attempts=1
        )
        objects = open_objects("s3://bkt/in", settings)
        with pytest.raises(StoreError, match=r"s3://bkt/in: some/name could not be read: .*503") as raised:
            objects.get("some/name")
        assert SECRET_KEY not in str(raised.value)
        with pytest.raises(StoreError, match="could not be found"):
            objects.exists("some/name")


def test_nothing_is_asked_before_it_is_needed() -> None:
    """Opening objects in a bucket asks neither the network nor for credentials; using them without any says so."""
    objects = open_objects("s3://bkt/in", StoreSettings(endpoint_url=f"http://127.0.0.1:{free_port()}"))
    assert objects.url == "s3://bkt/in"
    with pytest.raises(ConfigurationError, match="no AWS credentials"):
        objects.get("a")
