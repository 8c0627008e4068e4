"""What the sensor remembers, as its cursor."""

import pytest

from export_pipeline.alerting.channel import AlertState, ChannelState, Open, Positions, from_json
from export_pipeline.alerting.happening import AlertMessage


def test_it_is_read_as_it_was_written() -> None:
    """Everything that is remembered survives the way through the cursor."""
    state = AlertState(
        Positions({"RUN_FAILURE": 7}, {"new_files": 1.5}, backfills_after=2.0, backfills_over=["abc"]),
        {
            "CHAT": ChannelState(
                open={"export_job/deliver_to_crm": Open("deliver_to_crm", since=1.0, told=2.0, times=3)},
                lines={"k": 1.0},
                outbox=[AlertMessage("title", "body — ü", "failure")],
                lost=2,
            )
        },
    )
    assert from_json(state.to_json()) == state


@pytest.mark.parametrize("cursor", [None, "", "null", "2026/11/23", "{}", '{"version": 2}', '{"version": 1}', "[1]"])
def test_a_cursor_of_another_kind_begins_anew(cursor: str | None) -> None:
    """A cursor that is missing, was edited by hand or is of another version is not an error: everything starts from
    zero.
    """
    assert from_json(cursor) is None
