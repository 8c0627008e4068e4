"""Metrics as text for Prometheus, and as a file for node_exporter."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from export_pipeline.ledger.figures import ExportFigures
from export_pipeline.metrics.catalogue import Measured, metrics_of
from export_pipeline.metrics.exposition import exposition, write_file
from export_pipeline_tests.servers.prometheus import promtool


def values(text: str) -> dict[tuple[str, str], float]:
    """Name and subscriber → value."""
    return {
        (sample.name, sample.labels.get("subscriber", "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_each_figure_is_a_metric(measured: list[Measured]) -> None:
    """A counter ends in _total, times are seconds since 1970, and what is not known is missing instead of 0."""
    found = values(exposition(measured))
    assert found["export_pipeline_delivered_events_total", "crm"] == 1_000
    assert found["export_pipeline_lag_seconds", "dwh"] == 90.5
    assert found["export_pipeline_owed_bytes", "dwh"] == 300
    assert found["export_pipeline_call_seconds_total", "crm"] == 0.25
    assert found["export_pipeline_last_run_success", ""] == 0
    assert found["export_pipeline_last_delivery_timestamp_seconds", "crm"] == 1_795_435_200
    assert ("export_pipeline_last_delivery_timestamp_seconds", "dwh") not in found


def test_before_the_first_run_only_the_deployment_is_known() -> None:
    """A source that no run has seen has no figures, which differ from figures of 0."""
    found = values(exposition(metrics_of(None, deployment="new", version="1", in_use=False)))
    assert found == {("export_pipeline_info", ""): 1, ("export_pipeline_enabled", ""): 0}


def test_label_values_are_escaped(figures: ExportFigures) -> None:
    """Quotes, backslashes and line ends in a label do not break the format."""
    odd = 'a"b\\c\nd'
    text = exposition(metrics_of(figures, deployment=odd, version="1"))
    assert 'deployment="a\\"b\\\\c\\nd"' in text
    labels = [sample.labels for family in text_string_to_metric_families(text) for sample in family.samples]
    assert {one["deployment"] for one in labels} == {odd}


@pytest.mark.thorough
def test_prometheus_has_no_objection(measured: list[Measured]) -> None:
    """promtool, Prometheus' own linter, accepts names, types and help texts."""
    done = subprocess.run(
        [promtool(), "check", "metrics"], input=exposition(measured), text=True, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_file_is_replaced_at_once(tmp_path: Path) -> None:
    """The file is readable for node_exporter's user, and nothing else is left in the folder."""
    path = tmp_path / "export.prom"
    path.write_text("old")
    path.chmod(0o600)
    write_file(path, "new ü\n")
    assert path.read_text(encoding="utf-8") == "new ü\n"
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_replaced_leaves_nothing_behind(tmp_path: Path) -> None:
    """If the name is taken by a folder, no temporary file stays."""
    (tmp_path / "export.prom").mkdir()
    with pytest.raises(OSError, match=r"export\.prom"):
        write_file(tmp_path / "export.prom", "new")
    assert [one.name for one in tmp_path.iterdir()] == ["export.prom"]


def test_no_metric_comes_twice(figures: ExportFigures) -> None:
    """Each name is declared once, also with several subscribers: node_exporter rejects a file that repeats one."""
    three = replace(figures, subscribers=(*figures.subscribers, replace(figures.subscribers[0], name="third")))
    text = exposition(metrics_of(three, deployment="production", version="1"))
    declared = [line for line in text.splitlines() if line.startswith("# TYPE ")]
    assert len(declared) == len(set(declared))
