"""The ledger's database: schema, transactions, URLs."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, insert, select, text

from export_pipeline.errors import ConfigurationError, LedgerError
from export_pipeline.ledger import database
from export_pipeline.ledger.claims import FileClaims, at_work, someone_is_at_work
from export_pipeline.ledger.database import Ledger
from export_pipeline.ledger.tables import metadata, sources


def test_migrations_make_exactly_the_tables_the_code_uses(ledger: Ledger) -> None:
    """A ledger made by the migrations has the tables, columns and indexes that the code declares."""
    with ledger.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        differences = [change for change in compare_metadata(context, metadata) if "alembic_version" not in str(change)]
    assert differences == []


def test_the_known_head_is_the_newest_migration() -> None:
    """The version that spares the import of Alembic is the one Alembic would go to."""
    assert ScriptDirectory.from_config(database.alembic_config()).get_current_head() == database.HEAD


def test_a_second_opening_changes_nothing(ledger: Ledger, ledger_url: str) -> None:
    """Opening a ledger again keeps what is in it."""
    with ledger.write(durable=True) as tx:
        tx.execute(insert(sources).values(url="file:///a", more_to_list=False))
    again = Ledger(ledger_url)
    with again.read() as tx:
        assert tx.execute(select(sources.c.url)).scalars().all() == ["file:///a"]
    again.close()


def test_a_newer_ledger_is_refused(ledger: Ledger, ledger_url: str) -> None:
    """A ledger that a newer version wrote is left alone, and the error names both versions."""
    with ledger.write() as tx:
        tx.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(LedgerError, match=rf"9999.*{database.HEAD}"):
        Ledger(ledger_url)


def test_a_failed_transaction_leaves_nothing(ledger: Ledger) -> None:
    """What was written before an error inside a transaction is not there afterwards."""

    def fail() -> None:
        with ledger.write() as tx:
            tx.execute(insert(sources).values(url="file:///a", more_to_list=False))
            raise RuntimeError("half-way")

    with pytest.raises(RuntimeError):
        fail()
    with ledger.read() as tx:
        assert tx.execute(select(sources.c.url)).all() == []


@pytest.mark.parametrize(
    "url", ["mysql://u:hunter2@h/db", "sqlite://", "sqlite:///:memory:", "sqlite://u:hunter2@h/x:y:z"]
)
def test_a_url_that_is_none_is_refused_without_its_password(url: str) -> None:
    """A ledger URL that cannot work is refused at once; the error says what is allowed and holds no password."""
    with pytest.raises(ConfigurationError, match="allowed") as caught:
        Ledger(url)
    assert "hunter2" not in str(caught.value)


_HOLDER = """
import sys, time
from export_pipeline.ledger.database import Ledger
ledger = Ledger(sys.argv[1])
with ledger.claims.claim("work") as mine:
    print(mine, flush=True)
    time.sleep(60)
"""


def test_a_claim_dies_with_its_holder(ledger: Ledger, ledger_url: str) -> None:
    """A claim keeps others out while its holder lives, and is free the moment the holder is killed."""
    holder = subprocess.Popen([sys.executable, "-c", _HOLDER, ledger_url], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"True\n"
    with ledger.claims.claim("work") as mine:
        assert not mine
    with ledger.claims.claim("other work") as mine:
        assert mine
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    started = time.monotonic()
    with ledger.claims.claim("work", wait_seconds=10) as mine:
        assert mine
    assert time.monotonic() - started < 10


def test_a_link_to_a_ledger_leads_to_its_claims(tmp_path: Path) -> None:
    """Who opens an SQLite ledger by a symbolic link, of the file or of its folder, finds the claims of all others."""
    (tmp_path / "real").mkdir()
    (tmp_path / "folder").symlink_to(tmp_path / "real")
    (tmp_path / "link.db").symlink_to(tmp_path / "real" / "ledger.db")
    with ExitStack() as opened:
        ledgers = [Ledger(str(tmp_path / name)) for name in ("real/ledger.db", "link.db", "folder/ledger.db")]
        for one in ledgers:
            opened.callback(one.close)
        with ledgers[0].claims.claim("work") as mine:
            assert mine
            for other in ledgers[1:]:
                with other.claims.claim("work") as also_mine:
                    assert not also_mine


def test_claims_of_one_process_exclude_each_other(ledger: Ledger) -> None:
    """The same claim cannot be held twice, not even by one process, and is free again after the block."""
    with ledger.claims.claim("work") as first, ledger.claims.claim("work") as second:
        assert (first, second) == (True, False)
    with ledger.claims.claim("work") as third:
        assert third


def test_several_processes_are_at_work_for_a_run(ledger: Ledger) -> None:
    """A run is worked for until the last of those that do has ended, whichever began first."""
    with at_work(ledger.claims, "run"):
        second = ExitStack()
        second.enter_context(at_work(ledger.claims, "run"))
        assert someone_is_at_work(ledger.claims, "run")
        assert not someone_is_at_work(ledger.claims, "another")
    assert someone_is_at_work(ledger.claims, "run")
    second.close()
    assert not someone_is_at_work(ledger.claims, "run")


def test_abandoned_lock_files_are_swept(tmp_path: Path) -> None:
    """Lock files unused for a day are removed; one that is held stays."""
    ledger = Ledger(str(tmp_path / "ledger.db"))
    folder = tmp_path / "ledger.db.claims"
    with ledger.claims.claim("old"), ledger.claims.claim("held"):
        pass
    with ledger.claims.claim("held"):
        for entry in folder.iterdir():
            os.utime(entry, (0, 0))
        ledger.claims.sweep()
        assert len(list(folder.iterdir())) == 1
        with ledger.claims.claim("held") as second:
            assert not second
    ledger.close()


_RACE = """
import os, sys
from pathlib import Path
from export_pipeline.ledger.database import Ledger
# Imported before the race, so that all reach the database at the same moment.
import alembic.command, filelock

for round_ in range(30):
    path = Path(sys.argv[1]) / f"{round_}.db"
    begin, go = os.pipe()
    children = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            os.close(go)
            os.read(begin, 1)
            ledger = Ledger(str(path))
            with ledger.engine.connect() as connection:
                mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar()
            os._exit(mode != "wal")
        children.append(child)
    os.close(go)
    failed = [child for child in children if os.waitpid(child, 0)[1]]
    os.close(begin)
    if failed:
        sys.exit(f"round {round_}: {len(failed)} of {len(children)} failed")
"""


def test_a_new_ledger_may_be_opened_by_many_at_once(tmp_path: Path) -> None:
    """Processes that open the same new ledger at the same moment all find it whole, and in WAL mode."""
    done = subprocess.run(
        [sys.executable, "-c", _RACE, str(tmp_path)], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_another_process_deletes_no_log_that_is_in_use(tmp_path: Path) -> None:
    """A process that opens its ledger twice keeps its locks: another one that comes and goes leaves the log in place,
    and both find what the other has written.
    """
    path = tmp_path / "ledger.db"
    first = Ledger(str(path))
    with first.write() as tx:
        tx.execute(insert(sources).values(url="file:///a", more_to_list=False))
    again = Ledger(str(path))
    add = (
        "from sqlalchemy import insert; from export_pipeline.ledger.database import Ledger; "
        "from export_pipeline.ledger.tables import sources; ledger = Ledger(%r)\n"
        "with ledger.write() as tx: tx.execute(insert(sources).values(url='file:///b', more_to_list=False))\n"
        "ledger.close()"
    )
    log = tmp_path / "ledger.db-wal"
    before = log.stat().st_ino
    subprocess.run([sys.executable, "-c", add % str(path)], check=True, timeout=120)
    assert log.stat().st_ino == before
    for ledger in (first, again):
        with ledger.write() as tx:
            tx.execute(insert(sources).values(url=f"file:///{id(ledger)}", more_to_list=False))
    with again.read() as tx:
        assert len(tx.execute(select(sources.c.url)).scalars().all()) == 4
        assert tx.execute(text("PRAGMA integrity_check")).scalar() == "ok"
    again.close()
    first.close()


def test_a_database_that_cannot_be_changed_to_wal_says_why_at_once(tmp_path: Path) -> None:
    """Only a lock is waited for: SQLite's other errors are raised as they are."""
    path = tmp_path / "ledger.db"
    sqlite3.connect(path).execute("CREATE TABLE t (n)").connection.close()
    engine = create_engine("sqlite://", creator=lambda: sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True))
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        database.ensure_wal(engine, path, FileClaims(tmp_path / "claims"))
    engine.dispose()


def test_the_package_does_not_open_a_file_of_sqlite(tmp_path: Path) -> None:
    """The guard over all tests works: opening the file of a database in use, as the package would, fails."""
    path = tmp_path / "ledger.db"
    ledger = Ledger(str(path))
    opening = compile("open(path).close()", database.__file__, "exec")
    with pytest.raises(AssertionError, match="releases its locks"):
        exec(opening, {"path": str(path)})
    ledger.close()


def test_who_only_looks_makes_no_ledger(ledger_url: str, tmp_path: Path) -> None:
    """Opened without `create`, a ledger that is not there is an error that says so, and nothing is made."""
    with pytest.raises(LedgerError, match=r"no ledger .*; the first run creates it"):
        Ledger(ledger_url, create=False)
    assert list(tmp_path.iterdir()) == []


def test_who_only_looks_migrates_nothing(ledger: Ledger, ledger_url: str) -> None:
    """Opened without `create`, a ledger of another version is refused with both versions and left as it is."""
    Ledger(ledger_url, create=False).close()
    with ledger.write() as tx:
        tx.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    with pytest.raises(LedgerError, match=rf"0000.*{database.HEAD}"):
        Ledger(ledger_url, create=False)
    assert database.schema_version(ledger.engine) == "0000"
