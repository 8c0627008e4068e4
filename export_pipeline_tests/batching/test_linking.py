"""A staged batch that becomes a delivered file without being written again."""

import errno
import os
import stat
import struct
from pathlib import Path

import pytest

from export_pipeline.errors import StoreError
from export_pipeline.storage.objects import Objects, open_objects
from export_pipeline.storage.settings import StoreSettings
from export_pipeline_tests.servers.s3 import S3Server

NDJSON = b'{"n":1}\n{"n":2}\n'


@pytest.fixture
def staging(tmp_path: Path) -> Objects:
    """A private folder with the object ``m/0``."""
    objects = open_objects(str(tmp_path / "staging"), private=True)
    objects.put("m/0", NDJSON)
    return objects


@pytest.fixture
def out(tmp_path: Path) -> Objects:
    return open_objects(str(tmp_path / "out"))


@pytest.fixture
def moto_objects(moto: S3Server) -> Objects:
    """An empty bucket."""
    return open_objects(f"s3://{moto.new_bucket()}", StoreSettings(**moto.options))


def path_of(objects: Objects, name: str) -> Path:
    path = objects.path(name)
    assert path is not None
    return Path(path)


def is_shared(staging: Objects, out: Objects, name: str) -> bool:
    return path_of(staging, "m/0").samefile(path_of(out, name))


def put(staging: Objects, out: Objects, name: str) -> None:
    out.put_file(name, NDJSON, str(path_of(staging, "m/0")))
    assert out.get(name) == NDJSON
    assert list(path_of(out, name).parent.iterdir()) == [path_of(out, name)], "nothing unfinished is left"


@pytest.mark.parametrize("durable", [False, True])
def test_its_bytes_are_not_written_again(staging: Objects, tmp_path: Path, durable: bool) -> None:
    """The delivered object is the staged file under a second name, and stays when that is deleted."""
    out = open_objects(str(tmp_path / "out"), durable=durable)
    put(staging, out, "day/a.ndjson")
    assert is_shared(staging, out, "day/a.ndjson")
    staging.delete("m/0")
    assert out.get("day/a.ndjson") == NDJSON


def test_it_may_be_read_by_whom_the_folder_is_for(staging: Objects, out: Objects) -> None:
    """A delivered object has the permissions of every other file made there, not those of the private staging."""
    out.put("plain", b"")
    put(staging, out, "day/a")
    assert path_of(staging, "m").stat().st_mode & 0o777 == 0o700
    assert is_shared(staging, out, "day/a")
    assert stat.S_IMODE(path_of(out, "day/a").stat().st_mode) == stat.S_IMODE(path_of(out, "plain").stat().st_mode)


def test_it_takes_the_place_of_an_older_object(staging: Objects, out: Objects) -> None:
    """Under a name that exists there is the new object afterwards."""
    out.put("day/a", b"old and longer than the new one")
    put(staging, out, "day/a")
    assert is_shared(staging, out, "day/a")


def test_no_two_delivered_objects_are_one_file(staging: Objects, out: Objects) -> None:
    """The second delivery of a staged file is a copy: who edits one delivered object in place never changes another."""
    put(staging, out, "one/a")
    put(staging, out, "two/a")
    with path_of(out, "one/a").open("r+b") as file:
        file.write(b"edited!")
    assert out.get("two/a") == NDJSON
    put(staging, out, "one/a")


def test_the_same_delivery_again_is_a_copy(staging: Objects, out: Objects) -> None:
    """A delivery that was recorded by nobody, since the process was killed, is repeated and whole."""
    put(staging, out, "day/a")
    put(staging, out, "day/a")
    assert not is_shared(staging, out, "day/a")


def test_a_folder_that_gives_access_control_lists_to_its_files(staging: Objects, out: Objects) -> None:
    """Where files inherit more from their folder than a link would have, the object is written."""
    out.put("day/first", b"")
    entries = [
        (0x01, 7, -1),
        (0x02, 4, 12_345),
        (0x04, 5, -1),
        (0x10, 7, -1),
        (0x20, 0, -1),
    ]  # acl(5), in the kernel's form
    packed = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    os.setxattr(path_of(out, "day"), "system.posix_acl_default", packed)
    out.delete("day/first")
    put(staging, out, "day/a")
    assert not is_shared(staging, out, "day/a")
    assert "system.posix_acl_access" in os.listxattr(path_of(out, "day/a"))


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP])
def test_a_file_system_without_links(
    staging: Objects, out: Objects, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """Where the operating system makes no link, the object is written."""

    def refuse(*paths: str) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", refuse)
    put(staging, out, "day/a")
    assert not is_shared(staging, out, "day/a")


def test_a_staged_file_that_is_gone(staging: Objects, out: Objects) -> None:
    """What another run swept away after it was read is still delivered, from memory."""
    file = str(path_of(staging, "m/0"))
    staging.delete("m/0")
    out.put_file("day/a", NDJSON, file)
    assert out.get("day/a") == NDJSON


def test_a_folder_that_cannot_be_written(staging: Objects, tmp_path: Path) -> None:
    """Where neither link nor file can be made, the error names the place and the object."""
    (tmp_path / "out").write_bytes(b"a file is in the way")
    with pytest.raises(StoreError, match=r"/out: day/a could not be written: "):
        open_objects(str(tmp_path / "out")).put_file("day/a", NDJSON, str(path_of(staging, "m/0")))


def test_two_that_link_at_the_same_time(staging: Objects, out: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever finds a third name right after linking writes the object instead."""
    link = os.link

    def late(file: str, path: str) -> None:
        link(file, path)
        link(file, f"{file}.other")

    monkeypatch.setattr(os, "link", late)
    put(staging, out, "day/a")
    assert not is_shared(staging, out, "day/a")


def test_a_system_without_extended_attributes(staging: Objects, out: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Python cannot tell what else a file has beside its bytes, the object is written."""
    monkeypatch.delattr(os, "listxattr")
    put(staging, out, "day/a")
    assert not is_shared(staging, out, "day/a")


def test_a_bucket_has_no_path(moto_objects: Objects, staging: Objects) -> None:
    """An object in a bucket has no path on this machine; a staged file is uploaded to it."""
    assert moto_objects.path("a") is None
    moto_objects.put_file("a", NDJSON, str(path_of(staging, "m/0")))
    assert moto_objects.get("a") == NDJSON
