"""What a subscriber receives, and what it may return."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date

from export_pipeline.source.framed import split_lines


@dataclass(frozen=True, slots=True)
class Batch:
    """Whole events of one manifest, as NDJSON.

    Attributes:
        id: the manifest's id and the batch's number in it, as :mod:`export_pipeline.steps.deliver` puts them together:
            always the same for the same events, however often they are sent; only ``[0-9a-z-]``, at most 64 characters.
        data: UTF-8; one event a line, every line ends with a line feed.
        events: number of lines in ``data``, at least 1.
        files: keys of the files that the events come from, in reading order.
        date: the day of those files, according to their layout.
        staged_file: path of a local file that contains exactly ``data``, if there is one. It must not be modified, and
            is deleted when every subscriber has the batch.
        whole_id: id of the planned batch that these events are a part of; None: this is the planned batch.
        positions: the index of each event in the planned batch, from 0; None: these are all of its events, in order.
    """

    id: str
    data: bytes
    events: int
    files: tuple[str, ...]
    date: date
    staged_file: str | None = field(default=None, compare=False, repr=False, kw_only=True)
    whole_id: str | None = field(default=None, compare=False, repr=False, kw_only=True)
    positions: Sequence[int] | None = field(default=None, compare=False, repr=False, kw_only=True)

    def holding(self, lines: Iterable[bytes], *, id: str, positions: Sequence[int] | None = None) -> "Batch":
        """A batch of other events, given without line feeds, that otherwise equals this one.

        Args:
            positions: the index of each event in this batch, so that an event keeps its position in the planned batch
                however often that is divided.
        """
        lines = list(lines)
        if positions is not None and self.positions is not None:
            positions = [self.positions[position] for position in positions]
        return replace(
            self,
            id=id,
            data=b"\n".join([*lines, b""]),
            events=len(lines),
            staged_file=None,
            whole_id=self.whole_id or self.id,
            positions=positions,
        )

    def lines(self) -> list[bytes]:
        """The bytes of each event, without line feeds."""
        return split_lines(self.data)[0]


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a destination accepted: every event of the batch except those in ``refused`` and ``later``.

    Attributes:
        refused: index in the batch → the destination's reason. These are quarantined and never sent again.
        later: index in the batch → why it was not accepted yet. Only these are sent again, under a separate id.
        detail: a short note for the log, such as the destination's own id of the load. No secrets.
        suspected: index of a refused event → the problem of the destination itself that may have caused the refusal, as
            the same text for the same problem. If it explains every refusal and nothing is accepted, no event is at
            fault.
    """

    refused: Mapping[int, str] = field(default_factory=dict)
    later: Mapping[int, str] = field(default_factory=dict)
    detail: str = ""
    suspected: Mapping[int, str] = field(default_factory=dict)
