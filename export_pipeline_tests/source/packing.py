"""Every compression that files come in, as other programs write it."""

import bz2
import gzip
import io
import lzma
import struct
import zipfile
import zlib
from collections.abc import Callable

import cramjam
import lz4.block
import lz4.frame
from backports import zstd

SKIPPABLE_FRAME = b"\x53\x2a\x4d\x18\x04\0\0\0skip"


def zip_of(*files: bytes, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip archive with a folder and the files in it."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", method) as writer:
        for name, data in [("folder/", b""), *((f"folder/{n}.json", data) for n, data in enumerate(files))]:
            # ZipInfo's own date is one of 1980: the same bytes whenever the tests run.
            writer.writestr(zipfile.ZipInfo(name), data, method)
    return archive.getvalue()


def gzipped(data: bytes) -> bytes:
    """One member, without the time of packing."""
    return gzip.compress(data, mtime=0)


def hadoop_snappy(data: bytes, *, block_bytes: int = 256 * 1024, chunk_bytes: int = 100_000) -> bytes:
    """What Hadoop's BlockCompressorStream writes."""
    packed = b""
    for at in range(0, len(data), block_bytes):
        block = data[at : at + block_bytes]
        packed += struct.pack(">L", len(block))
        for begin in range(0, len(block), chunk_bytes):
            chunk = bytes(cramjam.snappy.compress_raw(block[begin : begin + chunk_bytes]))
            packed += struct.pack(">L", len(chunk)) + chunk
    return packed


def framed_snappy(data: bytes) -> bytes:
    """Snappy's own framing format."""
    return bytes(cramjam.snappy.compress(data)) or b"\xff\x06\0\0sNaPpY"


def xerial_snappy(data: bytes, *, chunk_bytes: int = 32 * 1024) -> bytes:
    """What snappy-java's SnappyOutputStream writes."""
    packed = b"\x82SNAPPY\0" + struct.pack(">LL", 1, 1)
    for at in range(0, len(data), chunk_bytes):
        chunk = bytes(cramjam.snappy.compress_raw(data[at : at + chunk_bytes]))
        packed += struct.pack(">L", len(chunk)) + chunk
    return packed


def fast_xz(data: bytes) -> bytes:
    """A stream as ``xz -1`` writes it: packed in a fraction of the time, and unpacked by the same code."""
    return lzma.compress(data, preset=1)


def lz4_framed(data: bytes) -> bytes:
    """A frame as the program lz4 writes it, with a checksum of its content."""
    return bytes(lz4.frame.compress(data, content_checksum=True, store_size=False))


def legacy_lz4(data: bytes) -> bytes:
    """A frame as ``lz4 -l`` writes it."""
    packed = b"\x02\x21\x4c\x18"
    for at in range(0, len(data), 8 * 1024 * 1024):
        block = lz4.block.compress(data[at : at + 8 * 1024 * 1024], store_size=False)
        packed += struct.pack("<L", len(block)) + block
    return packed


def in_parts(pack: Callable[[bytes], bytes], between: bytes = b"") -> Callable[[bytes], bytes]:
    """Packs the two halves of its data alone, and an empty part between."""
    return lambda data: between.join([pack(data[: len(data) // 2]), pack(b""), pack(data[len(data) // 2 :])])


def gzip_with_header(data: bytes) -> bytes:
    """A member with every optional field: name, comment, extra, and the header's own checksum."""
    header = b"\x1f\x8b\x08\x1e" + b"\0\0\0\0\0\x03" + b"\x05\0extra" + b"name\0" + b"comment\0"
    header += struct.pack("<H", zlib.crc32(header) & 0xFFFF)
    packer = zlib.compressobj(wbits=-15)
    trailer = struct.pack("<LL", zlib.crc32(data), len(data))
    return header + packer.compress(data) + packer.flush() + trailer


def zstd_with_checksum(data: bytes) -> bytes:
    """A frame with a checksum of its content."""
    return zstd.compress(data, options={zstd.CompressionParameter.checksum_flag: 1})


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "none": bytes,
    "gzip": gzipped,
    "gzip, stored": lambda data: gzip.compress(data, 0, mtime=0),
    "gzip, all header fields": gzip_with_header,
    "gzip, members": in_parts(gzipped),
    "gzip, padded": lambda data: in_parts(gzipped, between=b"\0" * 512)(data) + b"\0" * 511,
    "zlib": zlib.compress,
    "zlib, fastest": lambda data: zlib.compress(data, 1),
    "zlib, best": lambda data: zlib.compress(data, 9),
    "zstd": zstd_with_checksum,
    "zstd, frames": in_parts(zstd_with_checksum, between=SKIPPABLE_FRAME),
    "zstd, skippable frame first": lambda data: SKIPPABLE_FRAME + zstd_with_checksum(data),
    "bzip2": bz2.compress,
    "bzip2, streams": in_parts(bz2.compress),
    "xz": fast_xz,
    "xz, streams, padded": in_parts(fast_xz, between=b"\0" * 8),
    "zip": zip_of,
    "zip, stored": lambda data: zip_of(data, method=zipfile.ZIP_STORED),
    "snappy": framed_snappy,
    "snappy, streams": in_parts(framed_snappy),
    "snappy, padded": lambda data: framed_snappy(data) + b"\xfe\x02\0\0\0\0",
    "Hadoop's snappy": hadoop_snappy,
    "snappy-java's snappy": xerial_snappy,
    "snappy-java's snappy, streams": in_parts(xerial_snappy),
    "lz4": lz4_framed,
    "lz4, frames": in_parts(lz4_framed, between=SKIPPABLE_FRAME),
    "lz4, skippable frame first": lambda data: SKIPPABLE_FRAME + lz4_framed(data),
    "lz4, linked blocks": lambda data: bytes(lz4.frame.compress(data, block_size=4, content_checksum=True)),
    "lz4, legacy": legacy_lz4,
    "gzip in gzip": lambda data: gzipped(gzipped(data)),
    "gzip's members in gzip": lambda data: gzipped(in_parts(gzipped)(data)),
    "gzip in zip": lambda data: zip_of(gzipped(data)),
    "zip in zstd in gzip": lambda data: gzipped(zstd_with_checksum(zip_of(data))),
    "xz in bzip2 in lz4": lambda data: lz4_framed(bz2.compress(fast_xz(data))),
}
"""Name → packer. Each keeps its data whole."""

UNCHECKED = ("none", "Hadoop's snappy", "snappy-java's snappy", "snappy-java's snappy, streams", "lz4, legacy")
CHECKED = [name for name in PACKERS if name not in UNCHECKED and " in " not in name]
"""Those with a checksum of the data."""
