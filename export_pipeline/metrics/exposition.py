"""Metrics in Prometheus' text format: as text, and as a file for node_exporter."""

import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from export_pipeline.metrics.catalogue import Measured

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
# node_exporter usually runs as another user.
_READABLE_FOR_ALL = 0o644


class _Collected(Collector):
    """What prometheus_client asks for metrics."""

    def __init__(self, measured: Sequence[Measured]) -> None:
        self._measured = measured

    def collect(self) -> Iterable[Metric]:
        for one in self._measured:
            metric = Metric(one.name, one.help, one.kind)
            ending = "_total" if one.kind == "counter" else ""
            for sample in one.samples:
                metric.add_sample(one.name + ending, sample.labels, sample.value)
            if one.samples:
                yield metric


def exposition(measured: Sequence[Measured]) -> str:
    """The metrics in Prometheus' text format 0.0.4; label values are escaped."""
    return generate_latest(_Collected(measured)).decode()


def write_file(path: Path, text: str) -> None:
    """Replace the file at *path* by *text* at once, so that nobody reads half of it.

    Raises:
        OSError: the folder is missing or cannot be written.
    """
    # In the same folder, which rename requires. Its name does not end in .prom, so node_exporter does not read it.
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(handle, "w", encoding="utf-8") as file:
            file.write(text)
            os.fchmod(file.fileno(), _READABLE_FOR_ALL)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
