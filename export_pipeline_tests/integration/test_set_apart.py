"""A file that could be read once and now cannot: the others go on without it, and nothing is left behind."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from export_pipeline.errors import LedgerError
from export_pipeline.ledger import manifests
from export_pipeline.steps import read, unreadable
from export_pipeline.steps.read import ensure_staged
from export_pipeline_tests.integration import receivers
from export_pipeline_tests.integration.project import Project
from export_pipeline_tests.integration.retrying import retry

pytestmark = pytest.mark.usefixtures("one_event_log")

KEY = "2026/11/23/00/000.gz"
BROKEN = b'{"broken":'


class Killed(BaseException):
    """Nothing catches it, as nothing catches SIGKILL."""


def die(*_: object, **__: object) -> None:
    raise Killed


@pytest.fixture
def lines(project: Project, received: Path) -> list[bytes]:
    """What a run has read and staged as one manifest, and not delivered, since its receiver was down."""
    project.config["subscribers"] = {
        "crm": {
            "type": "python",
            "function": "export_pipeline_tests.integration.receivers:crm",
            "retry_for_seconds": 0,
        }
    }
    lines = project.put_days("23")
    project.put("2026/11/23/01/broken.gz", [BROKEN])
    (received / "crm.fails").touch()
    project.run()
    (received / "crm.fails").unlink()
    return lines


@contextmanager
def without_a_file(project: Project) -> Iterator[str]:
    """Inside the block staging has lost the manifest, whose id this is, and one of its files cannot be found."""
    (manifest,) = {batch_id.rpartition("-")[0] for batch_id in project.batch_ids()}
    away, there = project.root / "away", project.bucket / KEY
    there.rename(away)
    with project.workspace() as place:
        place.staging.delete(manifest)
    yield manifest
    away.rename(there)


def read_again(project: Project, manifest: str) -> str:
    """The manifest that was staged instead."""
    with project.workspace() as place:
        staged = ensure_staged(place, manifest, run_id="again").staged
    assert staged is not None
    return staged.manifest.id


def die_reading_again(project: Project, manifest: str, owner: object, function: str) -> None:
    """The same, killed as it calls *function*."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, function, die)
        with pytest.raises(Killed):
            read_again(project, manifest)


def waiting(project: Project) -> list[tuple[str | None, str]]:
    """Text and manifest of all that waits in the quarantine."""
    with project.workspace() as place:
        return [(record.text, record.manifest) for _, record in place.quarantine.records()]


def test_nothing_stays_staged_of_a_reading_that_was_cut_short(
    project: Project, received: Path, lines: list[bytes]
) -> None:
    """A run that dies after it staged what is left without an unreadable file leaves nothing there for good."""
    with without_a_file(project) as manifest:
        die_reading_again(project, manifest, manifests, "record_reading")
    assert project.staged() != []
    assert project.run().success
    assert sorted(receivers.events("crm", received)) == sorted(lines)
    assert project.staged() == []
    assert project.imbalances() == []


def test_a_bad_stretch_waits_in_the_quarantine_once(project: Project, lines: list[bytes]) -> None:
    """Of a malformed record that was quarantined before a file was isolated, only the new record waits."""
    with without_a_file(project) as manifest:
        assert waiting(project) == [(BROKEN.decode(), manifest)]
        rest = read_again(project, manifest)
    assert waiting(project) == [(BROKEN.decode(), rest)]
    assert rest != manifest
    assert sorted(record["manifest"] for record in project.quarantined()) == sorted([manifest, rest])


def test_what_took_a_manifests_place_has_one_reader_at_a_time(
    project: Project, lines: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asks for a manifest that files were set apart from waits for the reader of what took its place."""
    with without_a_file(project) as manifest:
        rest = read_again(project, manifest)
    monkeypatch.setattr(read, "_OTHER_READER_SECONDS", 0.1)
    with project.workspace() as place:
        place.staging.delete(rest)
        with place.ledger.claims.claim(f"read:{rest}") as mine:
            assert mine
            with pytest.raises(LedgerError, match=f"manifest {rest}: another process"):
                ensure_staged(place, manifest, run_id="too early")
    assert read_again(project, manifest) == rest


def test_a_bad_stretch_that_two_manifests_keep_is_tried_again_once(
    project: Project, received: Path, lines: list[bytes]
) -> None:
    """If a run died before it archived what an earlier manifest kept, a retry plans the malformed record once."""
    with without_a_file(project) as manifest:
        die_reading_again(project, manifest, unreadable, "forget_replaced")
    assert project.run().success
    assert [text for text, _ in waiting(project)] == 2 * [BROKEN.decode()]
    assert retry(project).stretches == 1
    assert project.run().success
    assert [text for text, _ in waiting(project)] == [BROKEN.decode()]
    assert sorted(receivers.events("crm", received)) == sorted(lines)
    assert project.imbalances() == []
