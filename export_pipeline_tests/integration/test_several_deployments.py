"""Several deployments, one after the other, on one Dagster instance: each delivers its whole history, and says so."""

from datetime import datetime, timedelta, timezone
from pathlib import Path

from sqlalchemy import select

from export_pipeline.ledger import tables as t
from export_pipeline_tests.integration.checks import evaluations
from export_pipeline_tests.integration.project import Project

LAST_DAY = datetime.now(timezone.utc).date() - timedelta(days=1)


def _deployment(root: Path, name: str, home: Path, **config: object) -> Project:
    """A deployment with its own bucket, ledger and subscriber."""
    (root / name).mkdir()
    made = Project(root / name, **config)
    made.home = home
    return made


def _history(project: Project, days: int) -> list[str]:
    keys = []
    for ago in range(days, 0, -3):
        keys.append(f"{LAST_DAY - timedelta(days=ago):%Y/%m/%d}/10/{ago}.gz")
        project.put(keys[-1], [{"ago": ago, "of": project.root.name}])
    return keys


def test_each_delivers_its_own_history(tmp_path: Path) -> None:
    """A demo and a bucket with a longer history share a cursor, a third one has a prefix: nothing of any is skipped,
    nothing comes twice, and completeness passes for each.
    """
    home = Project(tmp_path).home
    projects = [
        _deployment(tmp_path, name, home, prefix=prefix)
        for name, prefix in zip(("demo", "own", "third"), ("", "", "web"), strict=True)
    ]
    keys = {one.root.name: _history(one, days) for one, days in zip(projects, (6, 60, 30), strict=True)}
    for turn in range(2):
        for one in projects:
            new = f"{LAST_DAY:%Y/%m/%d}/11/turn-{turn}.gz"
            keys[one.root.name].append(new)
            one.put(new, [{"turn": turn}])
            assert one.run(_named(one, "export_job")).success
    first_day = (LAST_DAY - timedelta(days=90)).isoformat()
    for one in projects:
        with one.ledger() as ledger, ledger.read() as tx:
            states = set(tx.execute(select(t.deliveries.c.state)).scalars())
            files = list(tx.execute(select(t.files.c.key).order_by(t.files.c.key)).scalars())
        assert states == {"delivered"}
        assert files == sorted(keys[one.root.name])
        config = {_named(one, "check_completeness"): {"config": {"first_day": first_day}}}
        found = evaluations(one.run(_named(one, "check_job"), config=config))
        assert len(found) == 6
        assert [result.text for result in found.values() if not result.passed] == []


def _named(project: Project, name: str) -> str:
    prefix = project.config["prefix"]
    return f"{prefix}_{name}" if prefix else name
