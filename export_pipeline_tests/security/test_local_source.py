"""A local source is read within its folder, whatever is put in the place of a file between listing and reading."""

import os
from pathlib import Path

import pytest

from export_pipeline.errors import FileForbidden, FileReplaced
from export_pipeline.source.file import SourceFile
from export_pipeline.source.settings import SourceSettings
from export_pipeline.source.store import Source, open_source


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "source"
    (made / "2026").mkdir(parents=True)
    (made / "2026" / "a").write_bytes(b"ours")
    (tmp_path / "secret").write_bytes(b"them")
    # An attacker can give the file in the source the time that the other one has, and so the same etag.
    os.utime(tmp_path / "secret", ns=(1, 1))
    os.utime(made / "2026" / "a", ns=(1, 1))
    return made


@pytest.fixture
def source(folder: Path) -> Source:
    return open_source(SourceSettings(url=folder.as_uri()))


def read(source: Source, file: SourceFile) -> bytes:
    return b"".join(source.read_chunks(file, chunk_bytes=4))


def test_a_link_that_takes_the_place_of_a_listed_file(folder: Path, source: Source, tmp_path: Path) -> None:
    """A file that was replaced by a link out of the source, or whose folder was, is not read through it."""
    (file,) = source.list_files()
    assert read(source, file) == b"ours"
    (folder / "2026" / "a").unlink()
    (folder / "2026" / "a").symlink_to(tmp_path / "secret")
    with pytest.raises(FileForbidden, match="it leads out of the source"):
        read(source, file)
    (folder / "2026" / "a").unlink()
    (folder / "2026").rmdir()
    (tmp_path / "secret").rename(tmp_path / "a")
    (folder / "2026").symlink_to(tmp_path)
    with pytest.raises(FileForbidden, match="it leads out of the source"):
        read(source, file)


@pytest.mark.parametrize("key", ["../secret", "2026/../../secret", "/../secret"])
def test_a_key_that_climbs(source: Source, key: str) -> None:
    """A key that no listing returned, such as one in a manipulated ledger, reads nothing outside."""
    (listed,) = source.list_files()
    with pytest.raises(FileForbidden, match="it leads out of the source"):
        read(source, SourceFile(key, listed.etag, listed.size_bytes, listed.last_modified))


def test_an_absolute_key(source: Source, tmp_path: Path) -> None:
    """A key that looks like a path from the top is looked for below the source."""
    (listed,) = source.list_files()
    with pytest.raises(FileReplaced) as caught:
        read(source, SourceFile("/2026/a", "0-0", listed.size_bytes, listed.last_modified))
    assert caught.value.key == "/2026/a"


def test_a_pipe_that_takes_the_place_of_a_listed_file(folder: Path, source: Source) -> None:
    """Reading a pipe does not wait for a writer."""
    (file,) = source.list_files()
    (folder / "2026" / "a").unlink()
    os.mkfifo(folder / "2026" / "a")
    with pytest.raises(FileReplaced):
        read(source, file)


def test_the_source_may_be_reached_by_a_link(folder: Path, tmp_path: Path) -> None:
    """A source whose own path leads through a link is read as ever."""
    (tmp_path / "link").symlink_to(folder)
    source = open_source(SourceSettings(url=(tmp_path / "link").as_uri()))
    assert [read(source, file) for file in source.list_files()] == [b"ours"]
