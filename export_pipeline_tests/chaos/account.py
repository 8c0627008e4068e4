"""What came of everything: counts by fault, and the promises that a campaign must have kept."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timezone

from export_pipeline.deployment import load_deployment
from export_pipeline.ledger import balance, sources, subscriptions
from export_pipeline.steps.completeness import compare
from export_pipeline.steps.open import discovery_settings, open_workspace
from export_pipeline_tests.chaos.site import Site
from export_pipeline_tests.chaos.worker import first_day

KILLED, FAILED, THROUGH = "killed", "failed loudly", "went through"


@dataclass
class Account:
    """Counts over all campaigns.

    Attributes:
        outcomes: fault → outcome of the run it hit → how often.
        repeats: fault → batches that came again at the receiver that knows no ids, after a run it hit.
        delivered: subscriber → events, each counted once; guests under one name.
        files, campaigns, runs: how much there was.
        broken: sentences about promises that were not kept; none in a sound project.
    """

    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    repeats: Counter[str] = field(default_factory=Counter)
    delivered: Counter[str] = field(default_factory=Counter)
    campaigns: int = 0
    runs: int = 0
    store_faults: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)

    def note(self, faults: Iterable[str], outcome: str, repeats: int) -> None:
        """One run, and all that it went through."""
        self.runs += 1
        for fault in faults:
            self.outcomes.setdefault(fault, Counter())[outcome] += 1
            self.repeats[fault] += repeats


def broken_promises(site: Site) -> list[str]:
    """Everything that is not as promised at the end of a campaign, when all is calm and nothing is owed."""
    broken = [f"one id for two bodies: {identity}" for identity in site.honouring.contradictions]
    for name, events in site.received().items():
        lost, twice = site.expected - events, events - site.expected
        broken += [f"{name} lost {len(lost)} events, such as {min(lost)}"] if lost else []
        broken += [f"{name} got {len(twice)} events twice, such as {min(twice)}"] if twice else []
    for name in list(site.honouring.taken):
        twice = site.honouring.events(name) - site.expected
        broken += [f"{name} got {len(twice)} events twice, such as {min(twice)}"] if twice else []
    left = [
        str(path) for folder in ("staging", "quarantine") for path in (site.root / folder).rglob("*") if path.is_file()
    ]
    broken += [f"left behind: {path}" for path in left]
    return [*broken, *_unsound_ledger(site)]


def _unsound_ledger(site: Site) -> list[str]:
    deployment = load_deployment(str(site.write_deployment()))
    names = list(deployment.subscribers)
    now = datetime.now(timezone.utc)
    with open_workspace(deployment) as place:
        with place.ledger.read() as tx:
            source_id = sources.source_id(tx, place.source.url) or 0
            broken = list(balance.imbalances(tx, source_id))
            framed = balance.reading_balance(tx, source_id).framed
            if framed != len(site.expected):
                broken.append(f"{framed} events framed of {len(site.expected)}")
            for one in subscriptions.active(tx, source_id):
                accepted = balance.delivery_balance(tx, source_id, one).accepted
                if accepted != len(site.expected):
                    broken.append(f"the ledger has {accepted} events accepted by {one.name}, of {len(site.expected)}")
        found = compare(
            place.source,
            place.ledger,
            discovery_settings(deployment),
            first_day=first_day(),
            last_day=now.date(),
            wanted=names,
            due_before=now,
        )
    broken += [f"completeness: missing {one.file.key}" for one in found.missing]
    for name, tally in found.subscribers.items():
        if tally.delivered != tally.wanted or tally.wanted != found.objects:
            broken.append(f"completeness: {name} has {tally.delivered} of {found.objects} objects ({tally})")
    return broken
