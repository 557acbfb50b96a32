"""Embeddings kept on disk by the digest of their text, so that no text is embedded twice by the same model.

The file is the number of dimensions and a sequence of records, each a SHA-256 and a float16 vector. It is only ever
appended to: an interrupted run loses at most the batch it was working on.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pgwinnow.embed import Provider

BATCH = 64
HEADER = struct.Struct("<i")  # dimensions

Progress = Callable[[int, int], None]


class VectorStore:
    """The vectors of one model in one file."""

    def __init__(self, folder: Path, provider: Provider) -> None:
        self._provider = provider
        safe = "".join(letter if letter.isalnum() or letter in "-." else "_" for letter in provider.name)
        self.path = folder / f"{safe}.f16"

    def vectors(
        self, texts: Sequence[str], *, progress: Progress = lambda done, total: None
    ) -> tuple[npt.NDArray[np.float16], int]:
        """The vectors of the texts (n x d), and how many texts had to be embedded now.

        The model is not even read into memory when every text is known.
        """
        digests = [hashlib.sha256(text.encode()).digest() for text in texts]
        known = self._read()
        # Texts of similar length share a batch, which wastes the least on padding.
        missing = sorted({d: t for d, t in zip(digests, texts, strict=True) if d not in known}.items(), key=by_length)
        for start in range(0, len(missing), BATCH):
            batch = missing[start : start + BATCH]
            made = self._provider.embed([text for _, text in batch]).astype(np.float16)
            self._append([digest for digest, _ in batch], made)
            known.update(zip((digest for digest, _ in batch), made, strict=True))
            progress(start + len(batch), len(missing))
        return np.stack([known[digest] for digest in digests]), len(missing)

    def _append(self, digests: Sequence[bytes], vectors: npt.NDArray[np.float16]) -> None:
        records = np.empty(len(digests), dtype=record(vectors.shape[1]))
        records["digest"] = np.array(digests, dtype="V32")
        records["vector"] = vectors
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            if file.tell() == 0:
                file.write(HEADER.pack(vectors.shape[1]))
            file.write(records.tobytes())

    def _read(self) -> dict[bytes, npt.NDArray[np.float16]]:
        """Every whole record of the file; a torn one at the end is cut off."""
        if not self.path.is_file():
            return {}
        size = self.path.stat().st_size
        with self.path.open("r+b") as file:
            if size < HEADER.size:
                file.truncate(0)
                return {}
            shape = record(*HEADER.unpack(file.read(HEADER.size)))
            file.truncate(size - (size - HEADER.size) % shape.itemsize)
            records = np.fromfile(file, dtype=shape)
        return dict(zip((digest.tobytes() for digest in records["digest"]), records["vector"], strict=True))


def record(dimensions: int) -> np.dtype[np.void]:
    """One record of the file."""
    return np.dtype([("digest", "V32"), ("vector", np.float16, (dimensions,))])


def by_length(item: tuple[bytes, str]) -> int:
    """Sort key for (digest, text) pairs."""
    return len(item[1])
