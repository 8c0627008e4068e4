"""How ``type:`` finds its class."""

import subprocess
import sys
from importlib.metadata import EntryPoint, metadata
from pathlib import Path

import pytest

from export_pipeline.errors import ConfigurationError
from export_pipeline.subscribers import registry
from export_pipeline.subscribers.base import Subscriber
from export_pipeline.subscribers.files import Files
from export_pipeline.subscribers.registry import known_types, resolve

WHERE = "export_pipeline.subscribers"
HEAVY = {
    *("boto3", "botocore", "clickhouse_connect", "confluent_kafka", "dlt", "httpx2", "isal", "obstore", "opensearchpy"),
    *("pandas", "pyarrow", "pytest", "standardwebhooks", "backports.zstd"),
}


def test_the_shipped_types_are_known() -> None:
    """The shipped subscribers come in by their entry points, sorted by name."""
    assert {"files", "python", "webhook"} <= set(known_types())
    assert list(known_types()) == sorted(known_types())


@pytest.mark.parametrize("name", sorted(known_types()))
def test_every_known_type_is_a_subscriber(name: str) -> None:
    """Each entry point leads to a subscriber that can be created, and has its name."""
    found = resolve(name)
    assert issubclass(found, Subscriber)
    assert found.__name__.lower() == name.replace("_", "")


def test_a_class_is_found_by_its_path() -> None:
    """``package.module:Class`` names any class of any installed package."""
    assert resolve("export_pipeline.subscribers.files:Files") is Files


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "webhok",
            "unknown type 'webhok': did you mean 'webhook'\\? known are .*files, .*webhook.*, or package.module",
        ),
        ("xyz", "unknown type 'xyz': known are .*files"),
        ("json:loads", "type 'json:loads' is a function, not a class"),
        ("json:JSONDecoder", "is not a subclass of export_pipeline.subscribers.base:Subscriber"),
        (f"{WHERE}.base:Subscriber", r"does not define deliver\(\)"),
        (f"{WHERE}.nothing:X", f"no module '{WHERE}.nothing' found"),
        ("no_such_package.x:X", "no module 'no_such_package' found"),
        (f"{WHERE}.files:Flies", f"{WHERE}.files:Flies: 'Flies' does not exist there; it has .*Files"),
    ],
)
def test_a_wrong_type_is_told_with_what_is_allowed(name: str, message: str) -> None:
    """The error names what was found, and what there is instead."""
    with pytest.raises(ConfigurationError, match=message):
        resolve(name)


def entry_point(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [EntryPoint("other", value, registry.GROUP)]
    monkeypatch.setattr(registry, "_registered", lambda: tuple(found))


def test_a_missing_extra_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where a client library is not installed, the error says how to install it."""
    (tmp_path / "needs_much.py").write_text("import no_such_client\n")
    monkeypatch.syspath_prepend(tmp_path)
    entry_point("needs_much:X [kafka]", monkeypatch)
    message = r"type 'other' needs 'no_such_client', which is not installed: pip install \"export-pipeline\[kafka\]\""
    with pytest.raises(ConfigurationError, match=message):
        resolve("other")


@pytest.mark.parametrize("name", ["clickhouse", "kafka", "opensearch", "warehouse"])
def test_every_heavy_client_is_an_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its client the type says which extra of this package to install, and the package has that extra."""
    monkeypatch.setattr(registry, "find_spec", lambda module: None)
    with pytest.raises(ConfigurationError, match=rf'not installed: pip install "export-pipeline\[{name}\]"'):
        resolve(name)
    assert name in (metadata(registry.DISTRIBUTION).get_all("Provides-Extra") or [])


def test_a_client_that_is_imported_late_is_missed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The deployment file is refused though the missing library would be imported only with the first batch."""
    monkeypatch.setattr(Files, "needs", ("no_such_client",))
    entry_point(f"{WHERE}.files:Files [lake]", monkeypatch)
    with pytest.raises(
        ConfigurationError, match=r"needs 'no_such_client', .*: pip install \"export-pipeline\[lake\]\""
    ):
        resolve("other")


def test_a_broken_entry_point_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry point that does not name a class is an error of its package, and is reported as such."""
    entry_point(f"{WHERE}.files:Nothing", monkeypatch)
    with pytest.raises(ConfigurationError, match="cannot be loaded"):
        resolve("other")


def test_two_packages_with_one_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which of two classes is meant must not depend on the order of installation."""
    both = [EntryPoint("same", f"{WHERE}.{value}", registry.GROUP) for value in ("files:Files", "webhook:Webhook")]
    monkeypatch.setattr(registry, "_registered", lambda: tuple(both))
    with pytest.raises(ConfigurationError, match="two packages register a subscriber 'same'"):
        known_types()


def test_nothing_heavy_is_imported_before_it_is_used() -> None:
    """Loading all shipped types, and making some, imports no client library."""
    script = f"""
import sys
from {WHERE}.registry import known_types, resolve
for name in known_types():
    resolve(name)
resolve("webhook")(url="https://example.com", secret="whsec_MDEyMw==")
resolve("files")(url="s3://bucket/events")
resolve("python")(function="json:loads")
resolve("kinesis")(stream_name="x")
resolve("warehouse")(destination="duckdb")
print(sorted({HEAVY} & set(sys.modules)))
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
