"""The simulation's power: small sabotages of the product, each of which it must find."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from export_pipeline.batching.batch import Batch
from export_pipeline.batching.quarantine import Quarantine
from export_pipeline.batching.record import Kept
from export_pipeline.batching.staging import Staging
from export_pipeline.ledger import deliveries, manifests, portions, quarantined, subscriptions
from export_pipeline.ledger import tables as t
from export_pipeline.ledger import unreadable as unreadable_in_ledger
from export_pipeline.ledger.claims import FileClaims
from export_pipeline.steps import deliver, read, retention, retry, unreadable
from export_pipeline_tests.simulation.__main__ import once_more
from export_pipeline_tests.simulation.crashes import explore
from export_pipeline_tests.simulation.pairs import ON_POSTGRESQL, PAIRS
from export_pipeline_tests.simulation.play import Stage
from export_pipeline_tests.simulation.scenarios import SCENARIOS
from export_pipeline_tests.simulation.schedules import one_preemption, race_all

Patch = pytest.MonkeyPatch


def acceptance_before_quarantine(patch: Patch) -> None:
    """What was refused is kept when the delivery is closed, and no longer before the batch is accepted."""
    later: list[Callable[[], object]] = []
    keep, commit = Quarantine.put_refused, deliveries.commit

    def put_refused(self: Quarantine, **of: Any) -> list[Kept]:
        later.append(partial(keep, self, **of))
        return []

    def keep_and_commit(*given: Any, **named: Any) -> Any:
        while later:
            later.pop()()
        return commit(*given, **named)

    patch.setattr(Quarantine, "put_refused", put_refused)
    patch.setattr(deliveries, "commit", keep_and_commit)


def without_claims_of(what: str, patch: Patch) -> None:
    """Whoever asks for such a claim gets it."""
    claim = FileClaims.claim

    @contextmanager
    def given(self: FileClaims, name: str, *, wait_seconds: float = 0) -> Iterator[bool]:
        with nullcontext(True) if name.startswith(what) else claim(self, name, wait_seconds=wait_seconds) as mine:
            yield mine

    patch.setattr(FileClaims, "claim", given)


def commit_of_any_round(patch: Patch) -> None:
    """A delivery is closed though a replay was asked for meanwhile."""
    d = t.deliveries.c
    any_round = lambda found: (d.manifest_id == found.manifest_id) & (d.subscription_id == found.subscription_id)  # noqa: E731
    patch.setattr(deliveries, "_this_round", any_round)


def ids_of_a_run(patch: Patch) -> None:
    """A batch has another id each time that it is staged and sent."""
    numbers = iter(range(1_000_000))
    patch.setattr(deliver, "Batch", lambda id, **of: Batch(id=f"{id[:24]}-{1_000 + next(numbers)}", **of))


def staging_is_kept(patch: Patch) -> None:
    """What every subscriber has stays in staging."""
    patch.setattr(Staging, "delete", lambda *_: None)


def archived_before_it_is_planned(patch: Patch) -> None:
    """A retry takes an object out of the quarantine, and then plans it."""
    plan, archive = retry._plan, retry._archive

    def archive_and_plan(place: Any, name: str, records: Any, **named: Any) -> bool:
        archive(place, name, records, by="a retry")
        return plan(place, name, records, **named)

    patch.setattr(retry, "_plan", archive_and_plan)
    patch.setattr(
        retry,
        "_archive",
        lambda place, name, records, by: records[0].kind == "file" and archive(place, name, records, by=by),
    )


def newcomers_are_owed_nothing(patch: Patch) -> None:
    """Who is added is owed what comes from then on."""
    patch.setattr(subscriptions, "owe_missing", lambda *_, **__: 0)


def manifests_always_change(patch: Patch) -> None:
    """Files are isolated from a manifest that a subscriber has received."""
    patch.setattr(deliveries, "is_untouched", lambda *_: True)


def limits_of_today(patch: Patch) -> None:
    """A second reading of a manifest takes the limits that hold then."""
    get = manifests.get
    patch.setattr(manifests, "get", lambda tx, identity: replace(get(tx, identity), read_limits=None))


def all_of_it_is_given_up(patch: Patch) -> None:
    """Where one file is gone, a newcomer gets none of the others."""
    shares = unreadable_in_ledger.shares

    def given_up(*given: Any, **named: Any) -> list[unreadable_in_ledger.Share]:
        return [replace(share, sound=(), lost=(), is_indivisible=True) for share in shares(*given, **named)]

    patch.setattr(unreadable_in_ledger, "shares", given_up)


def staging_is_kept_by_who_gives_up(patch: Patch) -> None:
    """A folded manifest that is given up leaves staged what a process that died had left there."""

    class Kept:
        def delete(self, _: str) -> None:
            """It stays."""

    bring_back = retention.bring_back
    patch.setattr(
        read, "bring_back", lambda place, found, **of: bring_back(replace(place, staging=Kept()), found, **of)
    )


SABOTAGES: dict[str, tuple[Callable[[Patch], None], str]] = {
    "acceptance before quarantine": (acceptance_before_quarantine, "events refused by name"),
    "delivery without claim": (partial(without_claims_of, "deliver:"), "run beside run, a new file"),
    "planning without claim": (partial(without_claims_of, "plan:"), "run beside run, a new file"),
    "commit of any round": (commit_of_any_round, "run beside replay, a new file"),
    "ids of a run": (ids_of_a_run, "files of two days"),
    "staging is kept": (staging_is_kept, "files of two days"),
    "a retry archives before it plans": (archived_before_it_is_planned, "refused, mended, retried"),
    "a retry takes what was dismissed": (
        lambda patch: patch.setattr(quarantined, "waits", lambda *_: True),
        "retry beside dismiss, refused",
    ),
    "a retry takes what is not final": (
        lambda patch: patch.setattr(retry, "_is_final", lambda *_: True),
        "bad lines, retried",
    ),
    "newcomers are owed nothing": (newcomers_are_owed_nothing, "a subscriber added"),
    "manifests always change": (manifests_always_change, "a file vanishes before a newcomer reads it"),
    "a file is set apart during a delivery": (
        lambda patch: patch.setattr(unreadable, "_nobody_delivers", lambda *_: nullcontext()),
        "run beside a run after a loss, two files",
    ),
    "a replay forgets how a batch was divided": (
        lambda patch: patch.setattr(portions, "of_earlier_rounds", lambda *_: {}),
        "refused, mended, retried, replayed",
    ),
    "limits of today": (limits_of_today, "limits changed between two tries"),
    "who gives up keeps staging": (staging_is_kept_by_who_gives_up, "folded, a file vanished, a newcomer"),
    "one lost file gives up all": (all_of_it_is_given_up, "a file vanishes before a newcomer reads it"),
}


@pytest.mark.parametrize("name", SABOTAGES)
def test_it_is_found(empty: Stage, name: str, monkeypatch: Patch) -> None:
    """With this sabotage one crash or one preemption breaks a promise in this scenario, and so it does by its name."""
    sabotage, where = SABOTAGES[name]
    sabotage(monkeypatch)
    if where in SCENARIOS:
        broken = explore(SCENARIOS[where], empty.world, empty.begin, enough=1).broken
    else:
        broken = race_all(PAIRS[where], empty, one_preemption, enough=1).broken
    assert broken
    assert once_more(empty, str(broken[0]))


def test_a_manifest_that_changes_while_a_subscriber_is_added_is_found(
    empty_postgres: Stage, monkeypatch: Patch
) -> None:
    """On PostgreSQL, where two transactions may be under way at once, and no lock keeps the two apart."""
    for module in (deliveries, subscriptions, unreadable_in_ledger):
        monkeypatch.setattr(module, "hold_still", lambda *_: None)
    assert race_all(PAIRS[ON_POSTGRESQL[0]], empty_postgres, one_preemption, enough=1).broken
