"""What the check ``completeness`` and ``status --verify`` say of what a subscriber has not got."""

from datetime import date

import pytest

from export_pipeline.cli.verification import Verified
from export_pipeline.orchestration.check_results import Result, completeness
from export_pipeline.steps.completeness import Comparison, SubscriberTally

DAY = date(2026, 11, 23)


def compared(tally: SubscriberTally) -> tuple[Result, Verified]:
    """What both say of a day on which one subscriber stands like this."""
    comparison = Comparison(DAY, DAY, objects=tally.wanted, subscribers={"crm": tally})
    return completeness(comparison, None)["crm"], Verified(comparison)


@pytest.mark.parametrize(
    ("tally", "grave", "check", "verified"),
    [
        (
            SubscriberTally(wanted=5, delivered=3, overdue=2, overdue_keys=["a", "b"]),
            True,
            "2026-11-23: crm has received 3 of 5 objects, 2 overdue, the first is a",
            "crm has received 3 of 5 objects; owed for more than an hour: 2 objects: a, b",
        ),
        (
            SubscriberTally(wanted=5, delivered=4, given_up=1, given_up_keys=["c"]),
            False,
            "2026-11-23: crm has received 4 of 5 objects, 1 unreadable and quarantined",
            "crm has received 4 of 5 objects; given up: 1 object: c",
        ),
        (
            SubscriberTally(wanted=5, delivered=4),
            True,
            "2026-11-23: crm has received 4 of 5 objects, 1 missing",
            "crm has received 4 of 5 objects, 1 missing",
        ),
    ],
    ids=["overdue", "given-up", "missing"],
)
def test_what_a_subscriber_has_not_got_is_said(tally: SubscriberTally, grave: bool, check: str, verified: str) -> None:
    """Each kind of it fails the comparison, in words and in numbers; what is only in the quarantine is not grave."""
    result, seen = compared(tally)
    assert (result.passed, result.is_grave, result.text) == (False, grave, check)
    assert (seen.is_well, list(seen.sentences())[1]) == (False, verified)
    numbers = {"overdue": tally.overdue, "given_up": tally.given_up, "missing": tally.missing}
    assert {name: result.metadata[name] for name in numbers} == numbers
    listed = {name for name in result.metadata if name.endswith("_keys")}
    assert listed == {f"{one.kind}_keys" for one in tally.shortfalls if one.objects}


def test_what_is_on_its_way_is_well() -> None:
    """What arrived so lately that it may be owed fails nothing."""
    result, seen = compared(SubscriberTally(wanted=5, delivered=4, waiting=1))
    assert (result.passed, seen.is_well) == (True, True)
    assert result.text == "2026-11-23: crm has received 4 of 5 objects, 1 in progress"
