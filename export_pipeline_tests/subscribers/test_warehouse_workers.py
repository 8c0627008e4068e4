"""The warehouse subscriber in two processes at once, as on two workers."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from export_pipeline_tests.servers.postgres import new_database
from export_pipeline_tests.servers.programs import stop
from export_pipeline_tests.subscribers.warehouses import postgres_rows

BATCHES, EVENTS = 6, 200
LOADING = """
import json, os, sys, time
import psycopg2
from sqlalchemy import create_engine
from export_pipeline.delivery.sending import send_to
from export_pipeline.ledger.claims import PostgresClaims
from export_pipeline.subscribers import warehouse_native
from export_pipeline.subscribers.warehouse import Warehouse
from export_pipeline.testing import batch_of

url, inside, me, batches, events = *sys.argv[1:4], int(sys.argv[4]), int(sys.argv[5])
grow = warehouse_native._grow

def watched(*arguments, **options):
    try:
        os.close(os.open(inside, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        os._exit(9)
    time.sleep(0.05)  # whoever comes now would be seen
    try:
        return grow(*arguments, **options)
    finally:
        os.unlink(inside)

warehouse_native._grow = watched
warehouse = Warehouse(destination="postgres", connection=url)
warehouse.lend_claims(PostgresClaims(create_engine(url.replace("postgresql:", "postgresql+psycopg2:"))))
print("ready", flush=True)
sys.stdin.readline()
for n in range(batches):
    rows = [json.dumps({"of": f"{me}-{n}", "n": i, f"only_{me}_{n % 2}": True}).encode() for i in range(events)]
    assert send_to(warehouse, batch_of(rows, f"{me}-{n}")).accepted == events
warehouse.close()
"""


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_two_workers_load_into_one_table(postgres_url: str, tmp_path: Path) -> None:
    """Two processes deliver different batches at once, from the making of the table on and with columns that only one
    of them has: they load one after the other, no row is lost, and none comes twice.

    Two that name columns at the same moment would give one to two members.
    """
    with new_database(postgres_url.replace("export@", "export:password@")) as url:  # dlt insists on one
        arguments = [sys.executable, "-W", "ignore", "-c", LOADING, url, str(tmp_path / "inside")]
        workers = [
            subprocess.Popen(
                [*arguments, name, str(BATCHES), str(EVENTS)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            for name in ("a", "b")
        ]
        try:
            for worker in workers:
                assert worker.stdout is not None
                assert worker.stdout.readline() == b"ready\n"
            for worker in workers:
                assert worker.stdin is not None
                worker.stdin.write(b"\n")
                worker.stdin.flush()
            for worker in workers:
                worker.communicate(timeout=120)
                assert worker.returncode == 0, "9: two were loading at the same moment"
        finally:
            stop(workers)
        rows = postgres_rows(url)
    assert Counter(row["of"] for row in rows) == {f"{name}-{n}": EVENTS for name in ("a", "b") for n in range(BATCHES)}
    assert len({row["_event_id"] for row in rows}) == len(rows)
    assert sum(row["only_a_0"] is True for row in rows) == EVENTS * BATCHES // 2
