"""Embeddings kept on disk by the digest of their text, so that no text is embedded twice by the same model.

The file is a sequence of records, each a SHA-256 and a float16 vector, and is only ever appended to: an interrupted
run loses at most the batch it was working on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pgwinnow.embed import Provider

BATCH = 64

Progress = Callable[[int, int], None]


class VectorStore:
    """The vectors of one model in one file."""

    def __init__(self, folder: Path, provider: Provider) -> None:
        self._provider = provider
        self._record = np.dtype([("digest", "V32"), ("vector", np.float16, (provider.dimensions,))])
        safe = "".join(letter if letter.isalnum() or letter in "-." else "_" for letter in provider.name)
        self.path = folder / f"{safe}.f16"

    def vectors(
        self, texts: Sequence[str], *, progress: Progress = lambda done, total: None
    ) -> tuple[npt.NDArray[np.float16], int]:
        """The vectors of the texts (n x d), and how many texts had to be embedded now."""
        digests = [hashlib.sha256(text.encode()).digest() for text in texts]
        known = self._read()
        # Texts of similar length share a batch, which wastes the least on padding.
        missing = sorted({d: t for d, t in zip(digests, texts, strict=True) if d not in known}.items(), key=by_length)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            for start in range(0, len(missing), BATCH):
                batch = missing[start : start + BATCH]
                made = self._provider.embed([text for _, text in batch]).astype(np.float16)
                records = np.empty(len(batch), dtype=self._record)
                records["digest"] = np.array([digest for digest, _ in batch], dtype="V32")
                records["vector"] = made
                file.write(records.tobytes())
                known.update(zip((digest for digest, _ in batch), made, strict=True))
                progress(start + len(batch), len(missing))
        return np.stack([known[digest] for digest in digests]), len(missing)

    def _read(self) -> dict[bytes, npt.NDArray[np.float16]]:
        """Every whole record of the file; a torn one at the end is cut off."""
        if not self.path.is_file():
            return {}
        whole = self.path.stat().st_size // self._record.itemsize
        with self.path.open("r+b") as file:
            file.truncate(whole * self._record.itemsize)
        records = np.fromfile(self.path, dtype=self._record)
        return dict(zip((digest.tobytes() for digest in records["digest"]), records["vector"], strict=True))


def by_length(item: tuple[bytes, str]) -> int:
    """Sort key for (digest, text) pairs."""
    return len(item[1])
