"""Deployments whose destination would write into their source."""

from pathlib import Path

import pytest

from export_pipeline_tests.configuration.conftest import Load, Problems


def files(source: str, target: str, *, of_source: str = "", of_target: str = "") -> str:
    """A deployment that writes what it reads from *source* to *target*, with more options for each."""
    return (
        f"source: {{url: '{source}'{', ' * bool(of_source)}{of_source}}}\n"
        f"subscribers:\n  archive: {{type: files, url: '{target}'{', ' * bool(of_target)}{of_target}}}\n"
    )


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("s3://acme/events/", "s3://acme/events/"),
        ("s3://acme/events", "s3://acme/events/"),
        ("s3://acme/events/", "s3://acme/events/export"),
        ("s3://acme/events/", "S3://acme//events/./export/"),
        ("s3://acme/events/", "s3://acme/other/../events/export"),
        ("s3://acme/", "s3://acme/export/"),
        ("s3://acme", "s3://acme"),
        ("arn:aws:s3:::acme/events", "s3://acme/events/export"),
        ("s3://acme/events/", "arn:aws:s3:::acme/events/export"),
        ("gs://acme/events/", "gs://acme/events/"),
        ("az://acme/events/", "az://acme/events/export"),
        ("bucket", "bucket"),
        ("bucket/", "./bucket/export"),
        ("bucket", "other/../bucket/export"),
        ("bucket", "link/export"),
        ("link", "bucket"),
        (".", "export"),
        ("file:///{cwd}/bucket", "bucket/export"),
        ("bucket", "file://localhost{cwd}/bucket/"),
    ],
)
def test_a_destination_in_the_source_is_refused(folder: Path, problems: Problems, source: str, target: str) -> None:
    """Whatever the spelling: the error names the place, both urls, and what would happen."""
    (folder / "bucket").mkdir()
    (folder / "link").symlink_to(folder / "bucket")
    source, target = (text.replace("{cwd}", str(folder)).replace("////", "///") for text in (source, target))
    found = "\n".join(problems(files(source, target)))
    assert "subscribers.archive.url: found " in found
    assert "would be read as new files, in an endless loop; allowed: a place outside the source" in found


@pytest.mark.parametrize(
    ("of_source", "of_target"),
    [
        ("", "endpoint_url: https://s3.eu-central-1.amazonaws.com"),
        ("endpoint_url: 'http://127.0.0.1:9000'", "endpoint_url: 'http://localhost:9000/'"),
        ("endpoint_url: 'https://minio.example.com'", "endpoint_url: 'https://MINIO.example.com:443'"),
    ],
)
def test_one_server_under_two_names_is_one(problems: Problems, of_source: str, of_target: str) -> None:
    """An endpoint of AWS is AWS, and this machine has several names."""
    text = files("s3://acme/events/", "s3://acme/events/export/", of_source=of_source, of_target=of_target)
    assert "which is inside source.url" in "\n".join(problems(text))


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("s3://acme/2026/", "%Y/%m/%d/"),
        ("s3://acme/2026/11/", "%Y/%m/%d/"),
        ("s3://acme/events/", "events/%Y/"),
        ("s3://acme/dt=2026-11-23/", "dt=%Y-%m-%d/"),
    ],
)
def test_a_path_that_leads_into_the_source_is_refused(problems: Problems, source: str, path: str) -> None:
    """The source may be in the destination, as long as no object is written below it."""
    found = "\n".join(problems(files(source, "s3://acme/", of_target=f"path: '{path}'")))
    assert f"where path '{path}' leads into source.url" in found


@pytest.mark.parametrize(
    ("source", "target", "of_target"),
    [
        ("s3://acme/events/", "s3://acme/", ""),
        ("s3://acme/events/", "s3://acme/", "path: '%Y-events/%m/'"),
        ("s3://acme/2026/raw/", "s3://acme/", "path: '%Y/'"),
        ("s3://acme/events/", "s3://acme/events-export/", ""),
        ("s3://acme/events/", "s3://acme/Events/", ""),
        ("s3://acme/events/", "s3://other/events/", ""),
        ("s3://acme/events/", "gs://acme/events/", ""),
        ("s3://acme/events/", "s3://acme/events/", "endpoint_url: 'https://minio.example.com'"),
        ("bucket", "bucket-export", ""),
        ("folder/bucket", "folder", ""),
    ],
)
def test_a_destination_beside_the_source_is_fine(load: Load, source: str, target: str, of_target: str) -> None:
    """Other prefixes, buckets, stores and servers; and a folder above the source, whose objects are beside it."""
    assert "archive" in load(files(source, target, of_target=of_target)).subscribers


def test_a_warehouse_of_files_in_the_source_is_refused(problems: Problems) -> None:
    """Its files would be read as events, too."""
    text = (
        "source: {url: 's3://acme/events/'}\n"
        "subscribers:\n  lake: {type: warehouse, destination: filesystem, url: 's3://acme/events/lake'}\n"
    )
    assert "subscribers.lake.url: found s3://acme/events/lake, which is inside source.url" in "\n".join(problems(text))


@pytest.mark.parametrize("name", ["staging", "quarantine", "ledger"])
@pytest.mark.parametrize(("source", "kept"), [("bucket", "bucket"), ("bucket/", "./bucket/kept/here"), (".", "kept")])
def test_what_the_project_keeps_does_not_lie_in_the_source(
    problems: Problems, name: str, source: str, kept: str
) -> None:
    """Staged batches, quarantined events and the ledger would be read as new files."""
    found = "\n".join(problems(f"source: {{url: '{source}'}}\n{name}: {{url: '{kept}'}}\n"))
    assert f"{name}.url: found " in found
    assert "would be read as new files, in an endless loop; allowed: a place outside the source" in found


@pytest.mark.parametrize("kept", [".kept/here", "../kept", "bucket-kept", "postgresql://user@host/name"])
def test_what_the_project_keeps_may_lie_beside_the_source_and_in_hidden_folders(load: Load, kept: str) -> None:
    """Folders that are never read: names that begin with a dot are ignored, and ``.dagster`` is the default."""
    load("source: {url: .}\n" if kept.startswith(".k") else "source: {url: bucket}\n" + f"ledger: {{url: '{kept}'}}\n")


def test_the_store_of_staging_counts(problems: Problems, load: Load) -> None:
    """The same bucket name at another server is another bucket."""
    text = "source: {url: 's3://acme/events'}\nstaging: {url: 's3://acme/events/staged'%s}\n"
    assert "staging.url: found s3://acme/events/staged, which is inside source.url" in "\n".join(problems(text % ""))
    load(text % ", endpoint_url: 'https://minio.example.com'")
