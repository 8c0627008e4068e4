"""What must hold for any bytes at all. The first bytes choose the limits and the pieces, the rest is the file.

Run it for long by hand: ``python -m export_pipeline_tests.fuzz -max_total_time=3600 <folder of inputs>``.
"""

import json
from itertools import islice

from export_pipeline.errors import FileError
from export_pipeline.source.compression import PIECE_BYTES, decompress
from export_pipeline.source.file import KIB, MIB, ReadLimits
from export_pipeline_tests.source.framing_support import RefusingChecker, frame
from export_pipeline_tests.source.packing import PACKERS

_HEAD_BYTES = 5
_FREE_LOOK_BYTES = (MIB, 0, 200, 2000)


def check_one(data: bytes) -> None:
    """Unpack and frame *data* in several ways.

    Raises:
        AssertionError: a promise is broken. Any other exception is a defect as well.
    """
    if len(data) < _HEAD_BYTES:
        return
    event_bytes, depth, piece_bytes, kind, packer = data[:_HEAD_BYTES]
    file = data[_HEAD_BYTES:]
    limits = ReadLimits(
        max_event_bytes=event_bytes * 4 + 1,
        max_depth=depth % 16 + 1,
        max_unpacked_bytes=64 * KIB,
        ratio_floor_bytes=64 * KIB,
        free_look_bytes=_FREE_LOOK_BYTES[kind // 4 % len(_FREE_LOOK_BYTES)],
    )
    unpacked = file
    if kind % 2:
        unpacked = check_unpacking(file, piece_bytes + 1, limits)
    elif kind % 4 == 2:
        check_packing(file[: 4 * KIB], packer, piece_bytes + 1, limits)
    check_framing(unpacked[: 4 * KIB], piece_bytes + 1, limits)


def check_unpacking(file: bytes, piece_bytes: int, limits: ReadLimits) -> bytes:
    """A file unpacks to the same bytes in whatever pieces it comes, within the limits, or is an error of the file."""
    whole = _unpacked([file], len(file), limits)
    pieces = [file[at : at + piece_bytes] for at in range(0, len(file), piece_bytes)]
    assert _unpacked(pieces, len(file), limits) == whole
    return whole or b""


def check_packing(file: bytes, packer: int, piece_bytes: int, limits: ReadLimits) -> None:
    """What was packed is the text that it would be by itself, or an error of the file as it would be."""
    pack = next(islice(PACKERS.values(), packer % len(PACKERS), None))
    alone = _unpacked([file], len(file), limits)
    if alone is not None and pack is not bytes:
        packed = pack(file)
        pieces = [packed[at : at + piece_bytes] for at in range(0, len(packed), piece_bytes)]
        found = _unpacked(pieces, len(packed), limits)
        # None: it was packed before, and is now once too often.
        assert found in (alone, None)


def check_framing(data: bytes, piece_bytes: int, limits: ReadLimits) -> None:
    """Every byte is accounted for, shortcuts, pieces and portions change nothing, and what comes out are events."""
    whole = frame(data, limits=limits)
    assert frame(data, limits=limits, cuts=range(piece_bytes, len(data), piece_bytes)) == whole
    assert frame(data, limits=limits, portion_bytes=piece_bytes) == whole
    assert frame(data, limits=limits, checker=RefusingChecker(limits)) == whole
    for event in whole.events:
        assert isinstance(json.loads(event), dict)
        assert not {*b"\r\n"} & {*event}
        assert len(event) <= limits.max_event_bytes
    again = frame(b"\n".join(whole.events), limits=limits)
    assert (again.events, again.stretches) == (whole.events, [])


def _unpacked(pieces: list[bytes], size_bytes: int, limits: ReadLimits) -> bytes | None:
    unpacked = []
    try:
        for piece in decompress(pieces, key="key", size_bytes=size_bytes, limits=limits):
            assert 0 < len(piece) <= PIECE_BYTES
            unpacked.append(piece)
    except FileError:
        return None
    assert sum(map(len, unpacked)) <= limits.max_unpacked_bytes
    return b"".join(unpacked)
