"""For tests of subscribers and pipelines: doubles, samples, and the suite that every subscriber has to pass.

``SubscriberContract`` needs pytest; the rest needs nothing beside this package.
"""

from typing import TYPE_CHECKING

from export_pipeline.testing.doubles import FlakySubscriber, RecordingSubscriber
from export_pipeline.testing.samples import awkward_events, batch_of, hard_events, sample_event

if TYPE_CHECKING:
    from export_pipeline.testing.contract import SubscriberContract

__all__ = [
    "FlakySubscriber",
    "RecordingSubscriber",
    "SubscriberContract",
    "awkward_events",
    "batch_of",
    "hard_events",
    "sample_event",
]


def __getattr__(name: str) -> object:
    if name != "SubscriberContract":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import pytest

    pytest.register_assert_rewrite("export_pipeline.testing.contract")  # so that a failure shows the values
    from export_pipeline.testing.contract import SubscriberContract

    return SubscriberContract
