"""A local folder as a source."""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from export_pipeline.errors import FileGone, FileReplaced, FileUnreachable, ListingFailed
from export_pipeline.source.file import SourceFile
from export_pipeline.source.settings import SourceSettings
from export_pipeline.source.store import Source, open_source

# Characters around the slash in the order of bytes, and beyond ASCII and beyond the 16 bits of UTF-16.
names = st.text(st.sampled_from(" !-.0a~é漢\uff5e😀"), min_size=1, max_size=3).filter(
    lambda name: not name.startswith(".")
)
paths = st.lists(names, min_size=1, max_size=3).map("/".join)


def source_of(folder: Path) -> Source:
    return open_source(SourceSettings(url=folder.as_uri()))


def write(folder: Path, key: str, content: bytes = b"x") -> None:
    path = folder / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def listed(folder: Path, **limits: str) -> list[str]:
    return [file.key for file in source_of(folder).list_files(**limits)]


def read(source: Source, file: SourceFile) -> bytes:
    return b"".join(source.read_chunks(file, chunk_bytes=4))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "source"
    made.mkdir()
    return made


@given(st.sets(paths, max_size=12), paths | st.just(""), paths | st.just(""), paths | st.none())
def test_files_come_in_the_order_of_a_bucket(keys: set[str], after: str, prefix: str, before: str | None) -> None:
    """Any tree is listed in the byte order of its keys, within any limits, as sorting all of its keys would."""
    with TemporaryDirectory() as path:
        folder = Path(path)
        there: set[str] = set()
        for key in sorted(keys):
            # No key can be a file and a folder at once.
            if not any(key.startswith(other + "/") for other in there):
                write(folder, key)
                there.add(key)
        files = source_of(folder).list_files(after=after, prefix=prefix, before=before)
        wanted = [key for key in there if key > after and key.startswith(prefix) and (before is None or key < before)]
        assert [file.key for file in files] == sorted(wanted, key=str.encode)


def test_folders_before_the_limit_are_not_opened(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Days before the start of a listing cost nothing: their folders are never read."""
    for day in range(1, 29):
        write(folder, f"2026/11/{day:02}/a")
    opened: list[str] = []
    scandir = os.scandir

    def recording(path: str) -> "os._ScandirIterator[str]":
        opened.append(os.path.relpath(path, folder))
        return scandir(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", recording)
        assert listed(folder, after="2026/11/26~", before="2026/11/28") == ["2026/11/27/a"]
    assert opened == [".", "2026", "2026/11", "2026/11/27"]


def test_what_is_not_a_finished_file_is_left_out(folder: Path) -> None:
    """Hidden and unfinished names, sockets, pipes and broken links are not files."""
    for name in ("a.gz", ".hidden", ".rsync.Xa81", "b.tmp", "b.part", "b.partial", "b.filepart", "b.crdownload"):
        write(folder, name)
    write(folder, ".git/config")
    os.mkfifo(folder / "pipe")
    (folder / "nowhere").symlink_to("gone")
    (folder / "loop").symlink_to("loop")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "socket"))
        assert listed(folder) == ["a.gz"]


def test_links_inside_the_source_are_followed(folder: Path) -> None:
    """A link to a file or folder of the source is read like it; a link to a folder above does not go round for ever."""
    write(folder, "real/a")
    (folder / "file").symlink_to("real/a")
    (folder / "folder").symlink_to("real")
    (folder / "real" / "up").symlink_to("..")
    assert listed(folder) == ["file", "folder/a", "real/a"]


def test_links_out_of_the_source_are_left_out(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Who may write into the source cannot make the export read other files of the machine; the log says so."""
    write(tmp_path, "elsewhere/secret")
    (folder / "a").symlink_to(tmp_path / "elsewhere" / "secret")
    (folder / "b").symlink_to(tmp_path / "elsewhere")
    with caplog.at_level(logging.WARNING):
        assert listed(folder) == []
    assert "leads out of the source" in caplog.text


def test_the_source_itself_may_be_a_link(folder: Path, tmp_path: Path) -> None:
    """A link to the source's folder is as good as the folder."""
    write(folder, "2026/a")
    (tmp_path / "link").symlink_to(folder)
    assert listed(tmp_path / "link") == ["2026/a"]


def test_names_that_are_not_utf8_are_left_out(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file name that is not valid text cannot be a key; it is skipped with a warning, and the others are listed."""
    write(folder, "a")
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff")).write_bytes(b"x")
    with caplog.at_level(logging.WARNING):
        assert listed(folder) == ["a"]
    assert "not UTF-8" in caplog.text


def test_a_missing_folder_fails(folder: Path) -> None:
    """A source whose folder does not exist is an error, not an empty source."""
    with pytest.raises(ListingFailed, match=r"nowhere could not be listed: .*No such file or directory"):
        listed(folder / "nowhere")


def test_a_folder_removed_while_listing_is_passed_by(folder: Path) -> None:
    """What vanishes during the listing is as if it had vanished before."""
    for key in ("a/1", "b/1", "c/1"):
        write(folder, key)
    files = source_of(folder).list_files()
    assert next(files).key == "a/1"
    (folder / "b" / "1").unlink()
    (folder / "b").rmdir()
    assert [file.key for file in files] == ["c/1"]


def test_bytes_come_back_whatever_the_key(folder: Path) -> None:
    """Spaces, percent signs, line breaks and Unicode in a name are part of the key, and the file is found by it."""
    for key in ("a b%20?#", "é漢😀", "line\nbreak", "back\\slash"):
        write(folder, key, key.encode())
    source = source_of(folder)
    for file in source.list_files():
        assert read(source, file) == file.key.encode()
        assert file.size_bytes == len(file.key.encode())


def test_an_empty_file(folder: Path) -> None:
    """A file of no bytes is a file."""
    write(folder, "a", b"")
    source = source_of(folder)
    [file] = source.list_files()
    assert read(source, file) == b""


def test_the_etag_survives_a_move_of_the_folder(folder: Path, tmp_path: Path) -> None:
    """The same content restored elsewhere, with its times, has the same etag; changed content has another."""
    write(folder, "a", b"old")
    [before] = source_of(folder).list_files()
    copy = tmp_path / "copy"
    copy.mkdir()
    write(copy, "a", b"old")
    times = (folder / "a").stat()
    os.utime(copy / "a", ns=(times.st_atime_ns, times.st_mtime_ns))
    [restored] = source_of(copy).list_files()
    assert restored.etag == before.etag
    write(folder, "a", b"new")
    [after] = source_of(folder).list_files()
    assert after.etag != before.etag


@pytest.mark.parametrize("in_place", [True, False])
def test_a_replaced_file_is_not_read(folder: Path, in_place: bool) -> None:
    """A file overwritten, or replaced by a rename, after the listing raises FileReplaced."""
    write(folder, "a", b"old bytes")
    source = source_of(folder)
    [file] = source.list_files()
    if in_place:
        write(folder, "a", b"new bytes")
    else:
        write(folder, ".a", b"new bytes")
        (folder / ".a").rename(folder / "a")
    with pytest.raises(FileReplaced):
        read(source, file)


def test_a_file_that_changes_while_it_is_read_is_not_mixed(folder: Path) -> None:
    """A change between two pieces, or during one, raises FileReplaced."""
    write(folder, "a", b"old bytes")
    source = source_of(folder)
    [file] = source.list_files()
    chunks = source.read_chunks(file, chunk_bytes=4)
    assert next(chunks) == b"old "
    write(folder, "a", b"new bytes")
    with pytest.raises(FileReplaced):
        next(chunks)


def test_a_change_during_one_piece_is_noticed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is compared with the listing after the reading too, so a write in between cannot go unseen."""
    write(folder, "a", b"old bytes")
    source = source_of(folder)
    [file] = source.list_files()
    pread = os.pread

    def reading_while_it_grows(descriptor: int, count: int, offset: int) -> bytes:
        data = pread(descriptor, count, offset)
        write(folder, "a", b"new bytes, and more")
        return data

    monkeypatch.setattr(os, "pread", reading_while_it_grows)
    with pytest.raises(FileReplaced):
        source.read_range(file, 0, 9)


def test_a_deleted_file_is_gone(folder: Path) -> None:
    """A file, or its folder, that was deleted after the listing raises FileGone."""
    write(folder, "day/a")
    source = source_of(folder)
    [file] = source.list_files()
    (folder / "day" / "a").unlink()
    with pytest.raises(FileGone, match="day/a"):
        read(source, file)
    (folder / "day").rmdir()
    write(folder, "day")
    with pytest.raises(FileGone):
        read(source, file)


def test_a_folder_in_the_place_of_a_file(folder: Path) -> None:
    """A folder that took a file's name is a replacement."""
    write(folder, "a")
    source = source_of(folder)
    [file] = source.list_files()
    (folder / "a").unlink()
    (folder / "a").mkdir()
    with pytest.raises(FileReplaced):
        read(source, file)


def test_more_bytes_than_there_are(folder: Path) -> None:
    """A range beyond the end is an error, never a shorter answer."""
    write(folder, "a", b"12345")
    source = source_of(folder)
    [file] = source.list_files()
    with pytest.raises(FileUnreachable, match="2 bytes could be read at 3, expected 7"):
        source.read_range(file, 3, 10)


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize(
    "url", ["in", "./in/", "file:in", "{here}/in", "file://{here}/in", "file://localhost{here}/in"]
)
def test_spellings_of_one_folder(here: Path, url: str) -> None:
    """Relative paths, absolute paths and file URLs of one folder are one source."""
    write(here, "in/a")
    source = open_source(SourceSettings(url=url.format(here=here)))
    assert source.url == (here / "in").as_uri()
    assert [file.key for file in source.list_files()] == ["a"]


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A folder to which others than its owner have a way, as they have not to pytest's."""
    with TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@contextmanager
def as_somebody() -> Iterator[None]:
    """Without root's rights, to which every folder is open."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def timeless() -> Iterator[Path]:
    """A folder in memory, if there is such a place: its files may have any time, as on few disks."""
    memory = "/dev/shm"
    with TemporaryDirectory(dir=memory if os.path.isdir(memory) else None) as name:
        yield Path(name)


@pytest.mark.parametrize("seconds", [300_000_000_000, 0, -1, -(10**9), 1, 2**31])
def test_an_absurd_time_of_change_is_told(timeless: Path, seconds: int) -> None:
    """A file of the year 11476, of 1970 or before is listed and read with its arrival time; it is reported once, by
    name.
    """
    is_told = not 0 < seconds <= 2**31
    path = timeless / "a"
    write(timeless, "a")
    write(timeless, "b")
    os.utime(path, (seconds, seconds))
    if int(path.stat().st_mtime) != seconds:
        pytest.skip("this file system keeps no such time")
    source = source_of(timeless)
    first, second = source.list_files()
    assert (first.key, second.key) == ("a", "b")
    assert source.read_range(first, 0, 1) == b"x"
    left_out = source.take_left_out()
    assert left_out.troubles == is_told
    if is_told:
        assert abs(first.last_modified.timestamp() - path.stat().st_ctime) <= 1
        told = f"its modification time, {seconds} s after 1970, is out of range; "
        assert left_out.troubled_keys["a"].startswith(told)


@pytest.mark.parametrize("mode", [0o000, 0o444, 0o111])
def test_a_folder_that_cannot_be_entered_hides_no_other(reachable: Path, mode: int) -> None:
    """It is reported by name, once, and everything around it is listed."""
    for name in ("a", "m", "z"):
        write(reachable, f"{name}/f")
    (reachable / "m").chmod(mode)
    source = source_of(reachable)
    with as_somebody():
        assert [file.key for file in source.list_files()] == ["a/f", "z/f"]
        assert [file.key for file in source.list_files()] == ["a/f", "z/f"]
    left_out = source.take_left_out()
    assert left_out.troubles == 1
    ((key, reason),) = left_out.troubled_keys.items()
    assert (key, "Permission denied" in reason) == ("m/f" if mode == 0o444 else "m/", True)


def test_a_source_that_cannot_be_entered_fails(reachable: Path) -> None:
    """For the source's own folder this is not a matter of one name: the listing fails."""
    folder = reachable / "in"
    folder.mkdir(mode=0o000)
    with as_somebody(), pytest.raises(ListingFailed, match="Permission denied"):
        list(source_of(folder).list_files())


def test_what_is_left_out_is_counted_by_name(tmp_path: Path) -> None:
    """Links that leave the folder, broken ones and invalid names are reported, each once."""
    (tmp_path / "out").symlink_to("/etc/passwd")
    (tmp_path / "broken").symlink_to("nowhere")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff")).write_bytes(b"x")
    source = source_of(tmp_path)
    assert list(source.list_files()) == []
    left_out = source.take_left_out()
    assert left_out.troubles == 3
    assert "leads out of the source" in left_out.troubled_keys["out"]
    assert "No such file" in left_out.troubled_keys["broken"]
    assert "not UTF-8" in left_out.troubled_keys["\udcff"]
