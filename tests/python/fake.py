"""A model for tests: small, exact, the same everywhere."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


class FakeModel:
    """Texts of the same letters get the same vector; it remembers what it was given."""

    def __init__(self, name: str = "fake", dimensions: int = 4) -> None:
        self.name = name
        self.dimensions = dimensions
        self.batches: list[list[str]] = []

    def embed(self, texts: list[str]) -> npt.NDArray[np.float32]:
        self.batches.append(texts)
        return np.stack([self.vector(text) for text in texts])

    def vector(self, text: str) -> npt.NDArray[np.float32]:
        """What a text becomes."""
        rng = np.random.default_rng(zlib.crc32(text.encode()))
        return rng.random(self.dimensions, np.float32)


class BrokenModel(FakeModel):
    """Gives what it was made with, whatever the texts."""

    def __init__(self, answer: Sequence[Sequence[float]]) -> None:
        super().__init__()
        self._answer = answer

    def embed(self, texts: list[str]) -> npt.NDArray[np.float32]:
        return np.array(self._answer, np.float32)
