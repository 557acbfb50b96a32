"""A made-up collection in the shape of the published filtered-search benchmark on paper abstracts.

Follows the workload shape of "Benchmarking Filtered Approximate Nearest Neighbor Search Algorithms on
Transformer-based Embedding Vectors" (arXiv 2507.21989): unit vectors in a hierarchy of topics with a common mean,
categories that follow the topic, dates with heavy ties, set-valued categories, and queries that, like short texts,
lie off the base distribution. Synthetic data flatters nobody in particular; real data decides.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from pgwinnow.bench.datasets import Vectors, check_room, new_dataset, write_rest
from pgwinnow.bench.grow import BLOCK, BUCKETS, Progress, unit

TOPICS = 60
SUBTOPICS = 40  # per topic
COMMON, TOPIC, SUBTOPIC, PAPER = 0.65, 0.45, 0.35, 0.5  # lengths of the parts a vector is made of
QUERY_OFFSET = 0.35  # length of the step that takes short queries off the base distribution
SUBCATEGORY_SHARES = (0.5, 0.28, 0.135, 0.055, 0.02, 0.01)  # papers with 1, 2, ... 6 subcategories
OWN_TOPIC = 0.85  # probability that a category is the topic's own
DAYS = 5000
BUSY_DAYS, BUSY_SHARE = 40, 0.25  # so many days hold so large a share of the dates


def generate(
    out: Path,
    rows: int,
    dimensions: int,
    *,
    queries: int = 1000,
    seed: int = 7,
    progress: Progress = lambda step, done, total: None,
) -> None:
    """Write a synthetic data set of ``rows`` x ``dimensions`` to ``out``; the same arguments give the same data.

    Raises DataError, with nothing written, where ``out`` holds embeddings that data sets are made of, or has no room.
    """
    check_room(out, rows, dimensions)
    rng = np.random.default_rng(seed)
    topics = directions(rng, TOPICS, dimensions) * TOPIC
    subtopics = directions(rng, TOPICS * SUBTOPICS, dimensions) * SUBTOPIC
    common = directions(rng, 1, dimensions) * COMMON
    popularity = rng.dirichlet(np.full(TOPICS * SUBTOPICS, 0.4))

    place = rng.choice(TOPICS * SUBTOPICS, rows, p=popularity)
    with new_dataset(out, rows, dimensions) as base:
        for start in range(0, rows, BLOCK):
            part = place[start : start + BLOCK]
            own = directions(rng, len(part), dimensions) * PAPER
            base[start : start + len(part)] = unit(common + topics[part // SUBTOPICS] + subtopics[part] + own)
            progress("rows", start + len(part), rows)

        asked = rng.choice(TOPICS * SUBTOPICS, queries, p=popularity)
        step = directions(rng, 1, dimensions) * QUERY_OFFSET
        own = directions(rng, queries, dimensions) * (PAPER * 0.6)
        vectors = unit(common + topics[asked // SUBTOPICS] + subtopics[asked] + own + step)
        write_rest(
            out,
            queries=vectors,
            attributes=attributes(rng, place // SUBTOPICS),
            query_attributes=attributes(rng, asked // SUBTOPICS),
        )


def directions(rng: np.random.Generator, count: int, dimensions: int) -> Vectors:
    """Random unit vectors: count x dimensions."""
    return unit(rng.standard_normal((count, dimensions), dtype=np.float32))


def attributes(rng: np.random.Generator, topic: np.ndarray) -> pa.Table:
    """Attributes for rows of the given topics: some follow the topic, some are independent of it."""
    rows = len(topic)
    subcategories = rng.choice(np.arange(1, 7), rows, p=SUBCATEGORY_SHARES)
    label = np.where(rng.random(rows) < OWN_TOPIC, topic, rng.integers(0, TOPICS, rows))
    busy = np.sort(rng.choice(DAYS, BUSY_DAYS, replace=False))
    days = np.where(rng.random(rows) < BUSY_SHARE, rng.choice(busy, rows), rng.integers(0, DAYS, rows))
    tags = [
        None if rng_none else sorted({f"topic{first}", *(f"topic{other}" for other in others[:extra])})
        for rng_none, first, others, extra in zip(
            rng.random(rows) < 0.03,
            label.tolist(),
            rng.integers(0, TOPICS, (rows, 5)).tolist(),
            (subcategories - 1).tolist(),
            strict=True,
        )
    ]
    return pa.table(
        {
            "category": pa.array([f"topic{value}" for value in label.tolist()]),
            "updated": pa.array(days.astype(np.int32), type=pa.int32()).cast(pa.date32()),
            "n_authors": pa.array(np.minimum(rng.zipf(1.8, rows), 3000).astype(np.int32)),
            "n_bytes": pa.array(rng.lognormal(10.0, 1.2, rows).astype(np.int64)),
            "categories": pa.array(tags, type=pa.list_(pa.string())),
            "bucket": pa.array(rng.integers(0, BUCKETS, rows, dtype=np.int32)),
        }
    )
