"""Tools to test subscribers and pipelines: test doubles, sample events, and a contract suite for subscribers.

``SubscriberContract`` requires pytest; the rest has no further requirements.
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
