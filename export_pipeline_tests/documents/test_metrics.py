"""docs/metrics.md and the Grafana dashboard: every metric that they name exists, and a real Prometheus finds values."""

import json
import re
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
import yaml

from export_pipeline.metrics.catalogue import metrics_of
from export_pipeline_tests.cli.conftest import SCRIPT
from export_pipeline_tests.cli.test_metrics import CRM, serving
from export_pipeline_tests.documents.blocks import ROOT, all_blocks
from export_pipeline_tests.integration.conftest import one_event_log, project, received
from export_pipeline_tests.integration.project import Project
from export_pipeline_tests.metrics.conftest import figures
from export_pipeline_tests.servers.programs import free_port
from export_pipeline_tests.servers.prometheus import prometheus, promtool

__all__ = ["figures", "one_event_log", "project", "received"]

PAGE = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
DASHBOARD = json.loads((ROOT / "deployments" / "grafana" / "export_pipeline.json").read_text(encoding="utf-8"))
NAME = re.compile(r"\bexport_pipeline_[a-z_]+\b")
VARIABLES = {"$__rate_interval": "30s", "$deployment": ".*", "$subscriber": ".*"}


@pytest.fixture
def known(figures: Any) -> dict[str, set[str]]:
    """Name of each metric, as Prometheus has it → its labels, but for the deployment."""
    found = {}
    for one in metrics_of(figures, deployment="d", version="1"):
        labels = {name for sample in one.samples for name in sample.labels}
        found[one.name + ("_total" if one.kind == "counter" else "")] = labels - {"deployment"}
    return found


def queries() -> Iterator[tuple[str, str]]:
    """Title of the panel, and query, of everything on the dashboard."""
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


def rules() -> list[dict[str, Any]]:
    (block,) = [block for block in all_blocks("yml") if block.file == "export_pipeline.rules.yml"]
    (group,) = yaml.safe_load(block.text)["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def test_the_page_has_every_metric_with_its_labels(known: dict[str, set[str]]) -> None:
    """The table lists all metrics that there are, with their labels, and none that there is not."""
    rows = re.findall(r"^\| `(export_pipeline_\w+)` \|([^|]*)\|", PAGE, re.MULTILINE)
    assert {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows} == known
    assert len(rows) == len(known)


def test_dashboard_and_rules_name_only_metrics_that_exist(known: dict[str, set[str]]) -> None:
    """A metric that is renamed is renamed everywhere; the dashboard shows all but those of the deployment itself."""
    of_rules = {name for rule in rules() for name in NAME.findall(rule["expr"])}
    of_dashboard = {name for _, query in queries() for name in NAME.findall(query)}
    of_variables = {name for one in DASHBOARD["templating"]["list"] for name in NAME.findall(one.get("definition", ""))}
    assert (of_rules | of_dashboard | of_variables) - known.keys() == set()
    assert known.keys() - of_dashboard == {
        "export_pipeline_enabled",
        "export_pipeline_info",
        "export_pipeline_last_delivery_timestamp_seconds",
        "export_pipeline_last_run_end_timestamp_seconds",
        "export_pipeline_source_more_to_list",
    }


def test_the_panels_do_not_overlap() -> None:
    """Each place of Grafana's grid of 24 columns belongs to one panel, and each panel has its own id."""
    places = [
        (column, row)
        for panel in DASHBOARD["panels"]
        for at in [panel["gridPos"]]
        for column in range(at["x"], at["x"] + at["w"])
        for row in range(at["y"], at["y"] + at["h"])
    ]
    assert len(places) == len(set(places))
    assert max(column for column, _ in places) == 23
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


@pytest.mark.thorough
def test_prometheus_accepts_the_files_shown(tmp_path: Path) -> None:
    """promtool finds no fault in the configuration and in the rules of the page."""
    for name, what in (("prometheus.yml", "config"), ("export_pipeline.rules.yml", "rules")):
        (block,) = [block for block in all_blocks("yml") if block.file == name]
        (tmp_path / name).write_text(block.text, encoding="utf-8")
        done = subprocess.run([promtool(), "check", what, tmp_path / name], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def scraping(url: str, folder: Path) -> Iterator[Callable[[str], list[Any]]]:
    """A real Prometheus that scrapes *url* every second; yields a function that asks it."""
    program, port = prometheus(), free_port()
    config = {
        "global": {"scrape_interval": "1s"},
        "scrape_configs": [{"job_name": "export_pipeline", "static_configs": [{"targets": [url.split("/")[2]]}]}],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    arguments = ["--config.file=prometheus.yml", "--storage.tsdb.path=data", f"--web.listen-address=127.0.0.1:{port}"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, *arguments], cwd=folder, stdout=log, stderr=log)

    def ask(query: str) -> list[Any]:
        parameters = urllib.parse.urlencode({"query": query})
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/query?{parameters}", timeout=10) as answer:
                found: list[Any] = json.load(answer)["data"]["result"]
                return found
        except OSError:
            return []  # it has only just started

    try:
        yield ask
    finally:
        process.terminate()
        process.wait()


@pytest.mark.thorough
@pytest.mark.usefixtures("one_event_log")
def test_every_panel_finds_values(project: Project, received: Path, tmp_path: Path) -> None:
    """Prometheus, which scrapes an export with one subscriber that fails, has an answer for every query."""
    project.config["subscribers"]["crm"] = CRM
    project.put_days("22")
    run = [str(SCRIPT), "run"]
    subprocess.run(run, cwd=project.root, env=project.environment(), capture_output=True, check=True, timeout=60)
    folder = tmp_path / "prometheus"
    folder.mkdir()
    with serving(project) as (_, url), scraping(url, folder) as ask:
        until = time.monotonic() + 30
        while not ask("export_pipeline_lag_seconds") and time.monotonic() < until:
            time.sleep(0.2)
        (received / "crm.fails").touch()
        project.put_days("23")
        project.run()
        while not ask("export_pipeline_lag_seconds > 0") and time.monotonic() < until:
            time.sleep(0.2)
        time.sleep(1.5)  # one more scrape, so that rates have two
        empty = []
        for title, query in queries():
            filled = reduce(lambda text, one: text.replace(*one), VARIABLES.items(), query)
            if not ask(filled):
                empty.append((title, query))
        assert empty == []
        assert [one["metric"]["subscriber"] for one in ask("export_pipeline_failing == 1")] == ["crm"]
        (rate,) = ask('rate(export_pipeline_delivered_events_total{subscriber="copy"}[30s])')
        assert float(rate["value"][1]) > 0
