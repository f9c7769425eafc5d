"""A client that reads, as all of ours do, with a bound on what a message unpacks to.

A broker bounds what it holds, which may be packed, and kafka-python unpacks whatever comes: a megabyte of packed zeros
would be a gigabyte here. A batch that unpacks to more than `MAX_UNPACKED_BYTES` is read as one message without a body,
at the batch's last offset, whose header `UNREAD_HEADER` says how large the batch is as the broker has it.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

import cramjam
import lz4.frame
import zstandard
from kafka import KafkaConsumer
from kafka.errors import CorruptRecordError
from kafka.record import memory_records
from kafka.record.default_records import DefaultRecordBatch
from kafka.record.util import encode_varint

from .kafka_settings import KafkaSettings

MAX_UNPACKED_BYTES = 32 * 1024 * 1024
"""Of a batch: some requests of the largest size, or a hundred thousand small ones."""
UNREAD_HEADER = "imageflow-dlq-unread-batch"

_XERIAL_MAGIC = b"\x82SNAPPY\x00"
_XERIAL_HEADER_BYTES = 16
_FAULTS = (
    *(KeyError, EOFError, RuntimeError, struct.error),
    *(zlib.error, zstandard.ZstdError, cramjam.DecompressionError),
)


def make_consumer(settings: KafkaSettings, **options: object) -> Any:
    """Commits nothing by itself and makes no topics. Raises InvalidArgument, KafkaError."""
    return KafkaConsumer(
        **settings.client_options(),
        **{"enable_auto_commit": False, "allow_auto_create_topics": False, "metrics_enabled": False, **options},
    )


class _BoundedBatch(DefaultRecordBatch):  # type: ignore[misc]  # kafka-python has no types
    _decompressed: bool
    _buffer: bytearray
    _pos: int

    def _maybe_uncompress(self) -> None:
        if self._decompressed or self.compression_type == self.CODEC_NONE:
            self._decompressed = True
            return
        packed = bytes(memoryview(self._buffer)[self._pos :])
        try:
            unpacked = _UNPACK[self.compression_type](packed)
        except _FAULTS as exc:
            raise CorruptRecordError(f"a batch cannot be unpacked: {exc}") from exc
        if len(unpacked) > MAX_UNPACKED_BYTES:
            unpacked = _unread(self.last_offset_delta, len(packed))
            self._num_records = 1
        self._buffer, self._pos, self._decompressed = bytearray(unpacked), 0, True


memory_records.DefaultRecordBatch = _BoundedBatch  # there is no other way to tell kafka-python which to read by


def _unread(offset_delta: int, packed_bytes: int) -> bytes:
    """A record of Kafka's format 2: no key, no body, one header."""
    name, value = UNREAD_HEADER.encode(), b"%d" % packed_bytes
    record = bytearray(b"\x00")
    for number in (0, offset_delta, -1, -1, 1, len(name)):
        _write_varint(record, number)
    record += name
    _write_varint(record, len(value))
    record += value
    framed = bytearray()
    _write_varint(framed, len(record))
    return bytes(framed + record)


def _write_varint(to: bytearray, number: int) -> None:
    encode_varint(number, to.append)


def _unpack_gzip(packed: bytes) -> bytes:
    return _in_frames(packed, lambda: zlib.decompressobj(wbits=zlib.MAX_WBITS | 16))


def _unpack_lz4(packed: bytes) -> bytes:
    return _in_frames(packed, lz4.frame.LZ4FrameDecompressor)


def _in_frames(packed: bytes, make: Any) -> bytes:
    """One byte more than the bound, if there are as many."""
    unpacked = bytearray()
    while packed and len(unpacked) <= MAX_UNPACKED_BYTES:
        unpacker = make()
        unpacked += unpacker.decompress(packed, MAX_UNPACKED_BYTES + 1 - len(unpacked))
        if not unpacker.eof and len(unpacked) <= MAX_UNPACKED_BYTES:
            raise EOFError("it is cut off")
        packed = unpacker.unused_data or b""
    return bytes(unpacked)


def _unpack_zstd(packed: bytes) -> bytes:
    with zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True) as reader:
        read: bytes = reader.read(MAX_UNPACKED_BYTES + 1)
    return read


def _unpack_snappy(packed: bytes) -> bytes:
    """As far as the sizes that its blocks begin with are within the bound."""
    blocks = _xerial_blocks(packed) if packed.startswith(_XERIAL_MAGIC) else [packed]
    if sum(map(cramjam.snappy.decompress_raw_len, blocks)) > MAX_UNPACKED_BYTES:
        return bytes(MAX_UNPACKED_BYTES + 1)
    return b"".join(bytes(cramjam.snappy.decompress_raw(block)) for block in blocks)


def _xerial_blocks(packed: bytes) -> list[bytes]:
    """As Kafka's Java client frames them: each behind its size in four bytes."""
    blocks, begin = list[bytes](), _XERIAL_HEADER_BYTES
    while begin < len(packed):
        (size,) = struct.unpack_from(">i", packed, begin)
        if size <= 0:
            raise EOFError("a block has no size")
        blocks.append(packed[begin + 4 : begin + 4 + size])
        begin += 4 + size
    return blocks


_UNPACK = {
    DefaultRecordBatch.CODEC_GZIP: _unpack_gzip,
    DefaultRecordBatch.CODEC_SNAPPY: _unpack_snappy,
    DefaultRecordBatch.CODEC_LZ4: _unpack_lz4,
    DefaultRecordBatch.CODEC_ZSTD: _unpack_zstd,
}
