"""COPY's binary format, built a column and a block of rows at a time.

Each column of a block becomes one or more Arrow arrays of byte strings (*pieces*), no Python object per value. A row
is its number of fields (int16) and then its pieces, so ``binary_join_element_wise`` over all of them leaves the rows of
the block, complete and in order, in one buffer. A field is its length (int32, -1 for NULL) and its bytes, all
big-endian.

The format is described in PostgreSQL's reference page of COPY; the bytes of a field are those of the type's receive
function (``src/backend/utils/adt``: ``array_recv``, ``timestamptz_recv``, ``jsonb_recv``, ...).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from psycopg.types.numeric import DecimalBinaryDumper

from ..types import MAX_DIMENSIONS

Pieces = list[pa.Array]
Bytes = npt.NDArray[np.uint8]

HEADER = b"PGCOPY\n\xff\r\n\x00" + bytes(8)  # signature, flags, length of the header's extension
TRAILER = b"\xff\xff"

_BINARY = pa.large_binary()
_NULL = pa.scalar(b"\xff\xff\xff\xff", _BINARY)
_EMPTY = pa.scalar(b"", _BINARY)
EPOCH_DAYS = 10_957  # from 1970-01-01 to 2000-01-01
EPOCH_MICROSECONDS = EPOCH_DAYS * 86_400_000_000


@dataclass(frozen=True)
class Encoding:
    """How a column goes out: the Arrow type its values must have, and the pieces they become.

    ``arrow`` is None for a vector column: lists of numbers of any float or integer type.
    """

    arrow: pa.DataType | None
    encode: Callable[[pa.Array], Pieces]


def rows(columns: Sequence[Pieces]) -> memoryview:
    """The rows of a block, one entry of ``columns`` per field."""
    fields = pa.scalar(len(columns).to_bytes(2, "big"), _BINARY)
    joined = _join([fields, *(piece for pieces in columns for piece in pieces)])
    offsets = _offsets(joined)
    return memoryview(_data(joined))[offsets[0] : offsets[-1]]


def fixed(dtype: str, epoch: int = 0) -> Callable[[pa.Array], Pieces]:
    """Numbers, dates and times as the big-endian numpy type ``dtype``, counted from ``epoch``."""

    def encode(array: pa.Array) -> Pieces:
        values = array.drop_null()
        if pa.types.is_temporal(values.type):
            values = values.view(pa.int32() if values.type.bit_width == 32 else pa.int64())
        numbers = values.to_numpy(zero_copy_only=False) - epoch if epoch else values.to_numpy(zero_copy_only=False)
        block = numbers.astype(dtype)
        return _fields(block.view(np.uint8).reshape(len(block), -1), array)

    return encode


def uuid(array: pa.Array) -> Pieces:
    """Sixteen bytes each."""
    values = array.drop_null()
    data = np.frombuffer(values.buffers()[1], np.uint8)[16 * values.offset : 16 * (values.offset + len(values))]
    return _fields(data.reshape(-1, 16), array)


def text(array: pa.Array) -> Pieces:
    """Byte strings as they are: text, bytea, json, labels of an enum."""
    lengths = pc.binary_length(array).fill_null(-1).to_numpy(zero_copy_only=False)
    return [_dense(lengths.astype(">i4").view(np.uint8).reshape(-1, 4)), array.cast(_BINARY).fill_null(_EMPTY)]


def jsonb(array: pa.Array) -> Pieces:
    """JSON text behind the version of jsonb's binary form, 1."""
    return text(pc.binary_join_element_wise(pa.scalar(b"\x01", _BINARY), array.cast(_BINARY), _EMPTY))


def numeric(array: pa.Array) -> Pieces:
    """Decimals, given as text, one by one: their digits in base 10000 are not a matter of byte order alone."""
    dumper = DecimalBinaryDumper(Decimal)
    values: list[str | None] = array.to_pylist()
    return text(pa.array([None if value is None else dumper.dump(_decimal(value)) for value in values], _BINARY))


def _decimal(value: str) -> Decimal:
    try:
        return Decimal(value)
    except InvalidOperation:
        raise ValueError(f"{value[:40]!r} is not a number") from None


def array_of(element: Callable[[pa.Array], Pieces], element_oid: int) -> Callable[[pa.Array], Pieces]:
    """One-dimensional arrays whose elements are encoded by ``element``."""
    oid = element_oid.to_bytes(4, "big")

    def encode(array: pa.Array) -> Pieces:
        elements = array.flatten()  # leaves out the elements of NULL lists
        lengths = pc.list_value_length(array).fill_null(0).to_numpy(zero_copy_only=False)
        ends = np.concatenate([[0], np.cumsum(lengths)])
        encoded = _join(element(elements))
        offsets = _offsets(encoded)
        bodies = _strings(offsets[ends], _data(encoded))
        head = np.zeros((len(array), 6), ">i4")
        head[:, 0] = 20 + np.diff(offsets[ends])
        head[:, 1] = 1  # one dimension
        head[:, 2] = int(elements.null_count > 0)
        head[:, 3] = element_oid
        head[:, 4] = lengths
        head[:, 5] = 1  # subscripts start at 1
        heads = _dense(head.view(np.uint8).reshape(len(array), -1))
        empty = pa.scalar((12).to_bytes(4, "big") + bytes(8) + oid, _BINARY)  # no dimensions
        heads = pc.if_else(pa.array(lengths == 0), empty, heads)
        return [pc.if_else(array.is_valid(), heads, _NULL), bodies]

    return encode


def vector(dimensions: int | None) -> Callable[[pa.Array], Pieces]:
    """Lists of numbers as vectors, of ``dimensions`` or, if None, as many as the first has.

    ValueError for another length, for a NULL or non-finite number.
    """

    def encode(array: pa.Array) -> Pieces:
        lists = array.drop_null()
        if len(lists) == 0:
            return [pc.if_else(array.is_valid(), _EMPTY, _NULL)]
        lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
        wanted = dimensions or int(lengths[0])
        if not 1 <= wanted <= MAX_DIMENSIONS:
            raise ValueError(f"a vector of {wanted:,} dimensions, where 1 to {MAX_DIMENSIONS:,} can be")
        if (lengths != wanted).any():
            other = int(lengths[np.argmax(lengths != wanted)])
            raise ValueError(f"a vector of {other} dimensions where {wanted} are expected")
        values = _numbers(lists.flatten()).reshape(-1, wanted)
        head = np.array([4 + 4 * wanted], ">i4").tobytes() + np.array([wanted, 0], ">i2").tobytes()
        block = np.empty((len(values), 8 + 4 * wanted), np.uint8)
        block[:, :8] = np.frombuffer(head, np.uint8)
        block[:, 8:].view(">f4")[:] = values
        return _placed(block, array)

    return encode


def _numbers(array: pa.Array) -> npt.NDArray[np.float32]:
    """The numbers of vectors as float32; ValueError where one is NULL, not finite, or not a number."""
    if array.null_count:
        raise ValueError("a vector with a NULL among its numbers")
    if not (pa.types.is_floating(array.type) or pa.types.is_integer(array.type)):
        raise ValueError(f"a list of {array.type}, not of numbers")
    given = array.to_numpy(zero_copy_only=False)
    with np.errstate(over="ignore"):
        values: npt.NDArray[np.float32] = given.astype(np.float32)
    finite = np.isfinite(values)
    if not finite.all():
        position = int(np.argmin(finite))
        raise ValueError(f"a vector with {given[position]} in it, which is not a finite float32 number")
    return values


def _fields(block: Bytes, array: pa.Array) -> Pieces:
    """Fields of one width each: ``block`` holds the bytes of the values of ``array`` that are not NULL."""
    width = block.shape[1]
    lengths = np.broadcast_to(np.frombuffer(width.to_bytes(4, "big"), np.uint8), (len(block), 4))
    return _placed(np.concatenate([lengths, block], axis=1), array)


def _placed(block: Bytes, array: pa.Array) -> Pieces:
    """The rows of ``block`` where ``array`` has a value, and NULL fields where it has none."""
    if array.null_count == 0:
        return [_dense(block)]
    valid = array.is_valid()
    present = valid.to_numpy(zero_copy_only=False)
    offsets = np.concatenate([[0], np.cumsum(present)]) * block.shape[1]
    return [_strings(offsets, pa.py_buffer(block.tobytes())), pc.if_else(valid, _EMPTY, _NULL)]


def _dense(block: Bytes) -> pa.Array:
    """One byte string per row of ``block``."""
    count, width = block.shape
    return _strings(np.arange(count + 1) * width, pa.py_buffer(np.ascontiguousarray(block)))


def _strings(offsets: npt.NDArray[np.int64], data: pa.Buffer) -> pa.Array:
    return pa.Array.from_buffers(
        _BINARY, len(offsets) - 1, [None, pa.py_buffer(np.ascontiguousarray(offsets, np.int64)), data]
    )


def _join(pieces: Pieces) -> pa.Array:
    return pc.binary_join_element_wise(*pieces, _EMPTY)


def _offsets(strings: pa.Array) -> npt.NDArray[np.int64]:
    return np.frombuffer(strings.buffers()[1], np.int64)[strings.offset : strings.offset + len(strings) + 1]


def _data(strings: pa.Array) -> pa.Buffer:
    """The bytes that the offsets of ``strings`` count from; Arrow keeps none where there are none."""
    return strings.buffers()[2] or pa.py_buffer(b"")
