"""Vectors as bytes, as text and as numpy arrays; distance metrics by name.

The binary form is that of ``vector_send``: int16 dimensions, int16 zero, then one float4 per dimension, all
big-endian. The text form is ``[1,2,3]``. In Python a vector is a 1-d float32 numpy array; there is no class for it.
"""

from __future__ import annotations

import struct
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from psycopg.abc import Buffer

__all__ = ["MAX_DIMENSIONS", "Metric", "VectorLike", "as_vector", "from_binary", "from_text", "to_binary", "to_text"]

MAX_DIMENSIONS = 16_000

VectorLike = npt.ArrayLike
"""Anything numpy makes a 1-d array of numbers from."""

_HEADER = struct.Struct(">hh")


class Metric(str, Enum):
    """A distance, with the operator that computes it and the operator class that indexes it."""

    L2 = "l2"
    IP = "ip"
    COSINE = "cosine"
    L1 = "l1"

    @property
    def operator(self) -> str:
        """The SQL operator: ``<->``, ``<#>`` (negative inner product), ``<=>`` or ``<+>``."""
        return {"l2": "<->", "ip": "<#>", "cosine": "<=>", "l1": "<+>"}[self.value]

    @property
    def opclass(self) -> str:
        """The operator class, for example ``vector_cosine_ops``."""
        return f"vector_{self.value}_ops"

    @classmethod
    def named(cls, name: str) -> Metric:
        """The metric called ``name``; ValueError lists the names there are."""
        try:
            return cls(name)
        except ValueError:
            names = ", ".join(metric.value for metric in cls)
            raise ValueError(f"unknown metric {name!r}; there are {names}") from None

    @classmethod
    def indexed(cls, name: str) -> Metric:
        """The metric called ``name``, if an index can serve it; else ValueError."""
        if name == cls.L1:
            raise ValueError("no index serves l1; there are l2, ip and cosine (l1 distances need a sequential scan)")
        if name not in (cls.L2, cls.IP, cls.COSINE):
            raise ValueError(f"unknown metric {name!r}; an index serves l2, ip or cosine")
        return cls(name)


def as_vector(value: VectorLike) -> npt.NDArray[np.float32]:
    """``value`` as a 1-d float32 array.

    ValueError where it is not one-dimensional, is empty or too long, or holds a number that is not finite in float32.
    """
    # A finite float64 can be infinite in float32; the check below says so, numpy's warning would only repeat it.
    with np.errstate(over="ignore"):
        array = np.asarray(value, dtype=np.float32)
    if array.ndim != 1:
        raise ValueError(f"a vector has one dimension, not the shape {array.shape}")
    if not 1 <= array.size <= MAX_DIMENSIONS:
        raise ValueError(f"a vector has 1 to {MAX_DIMENSIONS} dimensions, not {array.size}")
    finite = np.isfinite(array)
    if not finite.all():
        position = int(np.argmin(finite))
        raise ValueError(f"a vector holds finite float32 numbers, not {array[position]} (position {position})")
    return array


def to_binary(value: VectorLike) -> bytes:
    """The binary form of ``value``; ValueError as for ``as_vector``."""
    array = as_vector(value)
    return _HEADER.pack(array.size, 0) + array.astype(">f4").tobytes()


def from_binary(data: Buffer) -> npt.NDArray[np.float32]:
    """The vector in its binary form ``data``; ValueError where the length does not fit the dimensions."""
    view = memoryview(data)
    if len(view) < _HEADER.size:
        raise ValueError(f"a binary vector has at least {_HEADER.size} bytes, not {len(view)}")
    dimensions, _ = _HEADER.unpack_from(view)
    if len(view) != _HEADER.size + 4 * dimensions:
        raise ValueError(f"a binary vector of {dimensions} dimensions does not have {len(view)} bytes")
    return np.frombuffer(view, dtype=">f4", offset=_HEADER.size).astype(np.float32)


def to_text(value: VectorLike) -> str:
    """The text form of ``value``, with as many digits as bring back the same float32 numbers."""
    return "[" + ",".join(str(number) for number in as_vector(value)) + "]"


def from_text(text: str) -> npt.NDArray[np.float32]:
    """The vector in its text form ``[1,2,3]``; ValueError where it is something else."""
    inner = text.strip()
    if not (inner.startswith("[") and inner.endswith("]")):
        raise ValueError(f"a vector is written as [1,2,3], not {text[:40]!r}")
    return np.array(inner[1:-1].split(","), dtype=np.float32)
