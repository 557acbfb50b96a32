"""A text column into a vector column, with a model that runs on this machine.

    embed_column("dbname=shop", "items", text="description", create=True)

The model's name is kept in the vector column's comment; one column holds one model's vectors.
"""

from __future__ import annotations

from ._column import EmbedProgress, embed_column
from ._models import DEFAULT_MODEL, LocalModel, Provider
from ._record import check_model, provider_for, recorded_model

__all__ = [
    "DEFAULT_MODEL",
    "EmbedProgress",
    "LocalModel",
    "Provider",
    "check_model",
    "embed_column",
    "provider_for",
    "recorded_model",
]
