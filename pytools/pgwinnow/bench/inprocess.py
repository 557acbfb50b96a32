"""Libraries that search in this process, on one thread: faiss, hnswlib and usearch.

Each holds the vectors alone. The filter is evaluated beforehand over the columns in memory and handed over as a bitmap
where the library takes one; the time that takes is recorded beside the search's, as it is part of what a user waits
for. Where a library takes no filter, more neighbours are asked for and those that fail are dropped. The parameters of
the indexes are the libraries' defaults.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from pgwinnow.bench.datasets import Dataset, Vectors
from pgwinnow.bench.filters import Columns, Filter, Mask, evaluate
from pgwinnow.bench.measure import Contestant, Look
from pgwinnow.bench.prepared import BenchError
from pgwinnow.bench.rivals import Effort
from pgwinnow.bench.tables import Build
from pgwinnow.bench.truth import Judge
from pgwinnow.bench.workloads import Workload
from pgwinnow.types import Metric

Ids = npt.NDArray[np.int64]

EF_LADDER = (16, 40, 100, 200, 400, 1000, 2000, 5000)
PROBES_LADDER = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
FAISS_NEIGHBOURS = 32  # M, which faiss has no default for; this is the value of its examples
HNSWLIB_NEIGHBOURS, HNSWLIB_EF_CONSTRUCTION = 16, 200


class Library(ABC):
    """One index of a library over the base vectors, row i with id i."""

    name: ClassVar[str]
    module: ClassVar[str]
    package: ClassVar[str]

    def __init__(self, metric: Metric) -> None:
        self.metric = metric
        try:
            self.api: Any = importlib.import_module(self.module)
        except ModuleNotFoundError as error:
            raise BenchError(
                f"{self.name} needs the module {error.name}, which is not installed",
                "pip install 'pgwinnow[rivals]', or leave that --rival out",
            ) from error
        self.index: Any = None

    def version(self) -> str:
        """The version of the installed library."""
        return importlib.metadata.version(self.package)

    @abstractmethod
    def build(self, vectors: Vectors) -> None:
        """Make the index of n x d vectors, of unit length where the metric is cosine."""

    @abstractmethod
    def size(self) -> int:
        """Bytes of the index as it would be saved, vectors included."""

    @abstractmethod
    def efforts(self) -> list[Effort]:
        """From the least to the most effort."""

    @abstractmethod
    def apply(self, effort: Effort) -> None:
        """Search with this effort from now on."""

    @abstractmethod
    def bitmap(self, mask: Mask) -> Any:
        """The rows that pass a filter in the form that the library takes."""

    @abstractmethod
    def search(self, vector: npt.NDArray[np.float32], k: int, bitmap: Any) -> Ids:
        """Ids of up to k nearest rows, in order; ``bitmap`` is None without a filter."""


class Faiss(Library):
    """What the two faiss indexes share: a bitmap selector in the parameters of a search."""

    module = "faiss"
    package = "faiss-cpu"

    def size(self) -> int:
        """The length of the serialised index."""
        return int(self.api.serialize_index(self.index).nbytes)

    def faiss_metric(self) -> int:
        """Unit vectors have the order of cosine distance under the inner product."""
        return int(self.api.METRIC_L2 if self.metric is Metric.L2 else self.api.METRIC_INNER_PRODUCT)

    def bitmap(self, mask: Mask) -> Any:
        """One bit a row; the selector keeps no reference to the bits, so they are kept beside it."""
        bits = np.packbits(mask, bitorder="little")
        return self.api.IDSelectorBitmap(bits), bits

    @abstractmethod
    def parameters(self, **selector: Any) -> Any:
        """The library's search parameters at the effort in force."""

    def apply(self, effort: Effort) -> None:
        """Take over the number that a search is given."""
        self.api.omp_set_num_threads(1)
        self.number = int(next(iter(effort.settings.values())))

    def search(self, vector: npt.NDArray[np.float32], k: int, bitmap: Any) -> Ids:
        """One search; places that nothing was found for hold -1."""
        parameters = self.parameters() if bitmap is None else self.parameters(sel=bitmap[0])
        _, ids = self.index.search(vector[None, :], k, params=parameters)
        return np.asarray(ids[0][ids[0] >= 0], dtype=np.int64)


class FaissHnsw(Faiss):
    """faiss IndexHNSWFlat."""

    name = "faiss-hnsw"

    def build(self, vectors: Vectors) -> None:
        """Add all vectors on one thread."""
        self.api.omp_set_num_threads(1)
        self.index = self.api.IndexHNSWFlat(vectors.shape[1], FAISS_NEIGHBOURS, self.faiss_metric())
        self.index.add(vectors)

    def efforts(self) -> list[Effort]:
        """Over efSearch."""
        return [Effort(f"efSearch {ef}", {"efSearch": str(ef)}) for ef in EF_LADDER]

    def parameters(self, **selector: Any) -> Any:
        """The parameter efSearch."""
        return self.api.SearchParametersHNSW(efSearch=self.number, **selector)


class FaissIvf(Faiss):
    """faiss IndexIVFFlat, with 4 sqrt(rows) lists as its guidelines say."""

    name = "faiss-ivf"

    def build(self, vectors: Vectors) -> None:
        """Train on the vectors and add them, on one thread."""
        self.api.omp_set_num_threads(1)
        lists = max(1, min(4 * math.isqrt(len(vectors)), len(vectors) // 39))  # faiss wants 39 rows a list to train
        self.coarse = self.api.IndexFlat(vectors.shape[1], self.faiss_metric())  # the index keeps no reference to it
        self.index = self.api.IndexIVFFlat(self.coarse, vectors.shape[1], lists, self.faiss_metric())
        self.index.train(vectors)
        self.index.add(vectors)

    def efforts(self) -> list[Effort]:
        """Over nprobe, up to all lists."""
        lists = int(self.index.nlist)
        probes = [each for each in PROBES_LADDER if each < lists]
        return [Effort(f"nprobe {each}", {"nprobe": str(each)}) for each in (*probes, lists)]

    def parameters(self, **selector: Any) -> Any:
        """The parameter nprobe."""
        return self.api.SearchParametersIVF(nprobe=self.number, **selector)


class Hnswlib(Library):
    """hnswlib, which asks a Python function whether a row passes, for every row it meets."""

    name = "hnswlib"
    module = "hnswlib"
    package = "hnswlib"

    def build(self, vectors: Vectors) -> None:
        """Add all vectors on one thread."""
        space = "l2" if self.metric is Metric.L2 else "ip"
        self.index = self.api.Index(space, vectors.shape[1])
        self.index.init_index(len(vectors), M=HNSWLIB_NEIGHBOURS, ef_construction=HNSWLIB_EF_CONSTRUCTION)
        self.index.add_items(vectors, np.arange(len(vectors)), num_threads=1)

    def size(self) -> int:
        """The length of the file that it would write."""
        return int(self.index.index_file_size())

    def efforts(self) -> list[Effort]:
        """Over ef."""
        return [Effort(f"ef {ef}", {"ef": str(ef)}) for ef in EF_LADDER]

    def apply(self, effort: Effort) -> None:
        """Set ef."""
        self.index.set_ef(int(effort.settings["ef"]))

    def bitmap(self, mask: Mask) -> Any:
        """The function that looks a row up."""
        return mask.__getitem__

    def search(self, vector: npt.NDArray[np.float32], k: int, bitmap: Any) -> Ids:
        """One search; hnswlib refuses to return fewer rows than asked for, hence is asked for half as many then."""
        while k > 0:
            try:
                ids, _ = self.index.knn_query(vector, k=k, num_threads=1, filter=bitmap)
                return np.asarray(ids[0], dtype=np.int64)
            except RuntimeError:
                k //= 2
        return np.empty(0, dtype=np.int64)


class Usearch(Library):
    """usearch, whose Python interface takes no filter: more neighbours are asked for, and tested afterwards."""

    name = "usearch"
    module = "usearch.index"
    package = "usearch"

    def build(self, vectors: Vectors) -> None:
        """Add all vectors in single precision on one thread."""
        metric = "l2sq" if self.metric is Metric.L2 else "ip"
        self.index = self.api.Index(ndim=vectors.shape[1], metric=metric, dtype="f32")
        self.index.add(np.arange(len(vectors)), vectors, threads=1)

    def size(self) -> int:
        """The length of the file that it would write."""
        return int(self.index.serialized_length)

    def efforts(self) -> list[Effort]:
        """A wider search, then more neighbours to test."""
        steps = [(64, 1), (200, 1), (500, 1), (200, 4), (500, 16), (1000, 64), (2000, 256), (5000, 1024), (5000, 4096)]
        return [
            Effort(f"expansion {expansion}, {times} x k", {"expansion": str(expansion), "times": str(times)})
            for expansion, times in steps
        ]

    def apply(self, effort: Effort) -> None:
        """Set the expansion of a search, and how many times k neighbours are asked for under a filter."""
        self.index.expansion_search = int(effort.settings["expansion"])
        self.times = int(effort.settings["times"])

    def bitmap(self, mask: Mask) -> Any:
        """The mask itself."""
        return mask

    def search(self, vector: npt.NDArray[np.float32], k: int, bitmap: Any) -> Ids:
        """One search, and the test."""
        count = k if bitmap is None else min(k * self.times, len(self.index))
        ids = np.asarray(self.index.search(vector, count, threads=1).keys, dtype=np.int64)
        return ids if bitmap is None else ids[bitmap[ids]][:k]


LIBRARIES: dict[str, type[Library]] = {each.name: each for each in (FaissHnsw, FaissIvf, Hnswlib, Usearch)}


def build(library: Library, dataset: Dataset) -> Build:
    """Build a library's index over the data set, timed."""
    vectors = prepared_vectors(np.asarray(dataset.base), library.metric)
    start = time.perf_counter()
    library.build(vectors)
    seconds = time.perf_counter() - start
    return Build(library.name, library.name, seconds, {}, None, library.size())


def prepared_vectors(vectors: Vectors, metric: Metric) -> Vectors:
    """Vectors as the libraries index and are asked for them: of unit length where the metric is cosine."""
    if metric is not Metric.COSINE:
        return np.ascontiguousarray(vectors)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1), dtype=np.float32)


class LibraryContestant(Contestant):
    """A library with its index built."""

    def __init__(self, library: Library, columns: Columns) -> None:
        self.name = library.name
        self.library = library
        self.columns = columns  # of the data set that the index was built over
        self.queries = 0
        self.effort = library.efforts()[0]

    def efforts(self) -> list[Effort]:
        """Those of the library."""
        return self.library.efforts()

    def curve_efforts(self) -> list[Effort]:
        """Those of the library."""
        return self.library.efforts()

    def prepare(self, workload: Workload, judge: Judge) -> None:
        """Make each distinct filter's bitmap, timed; a query without LIMIT asks for as many rows as pass."""
        made: dict[Filter | None, tuple[Any, int, float]] = {None: (None, self.columns.rows, 0.0)}
        for wanted in workload.filters:
            if wanted is not None and wanted not in made:
                start = time.perf_counter()
                mask = evaluate(wanted, self.columns).true
                bitmap = self.library.bitmap(mask)
                seconds = time.perf_counter() - start
                made[wanted] = (bitmap, int(mask.sum()), seconds)
        self.vectors = prepared_vectors(judge.queries, self.library.metric)
        found = [made[wanted] for wanted in workload.filters]
        self.bitmaps = [bitmap for bitmap, _, _ in found]
        self.counts = [min(rows, judge.k) if workload.limited else rows for _, rows, _ in found]
        self.seconds = [seconds for _, _, seconds in found]
        self.queries = len(found)

    def ask(self, query: int) -> tuple[Ids, float]:
        """One search. It asks for no more rows than pass, which whoever made the bitmap can tell."""
        count = self.counts[query]
        if count == 0:
            return np.empty(0, dtype=np.int64), 0.0
        search: Callable[[npt.NDArray[np.float32], int, Any], Ids] = self.library.search
        vector, bitmap = self.vectors[query], self.bitmaps[query]
        start = time.perf_counter()
        ids = search(vector, count, bitmap)
        return ids, time.perf_counter() - start

    def apply(self, effort: Effort) -> None:
        """Hand the effort to the library."""
        self.library.apply(effort)
        self.effort = effort

    def look(self, queries: Sequence[int]) -> Look:
        """The mean time of a bitmap over all queries; a library has no pages and one plan."""
        filtered = [seconds for seconds, bitmap in zip(self.seconds, self.bitmaps, strict=True) if bitmap is not None]
        mean = 1000 * float(np.mean(filtered)) if filtered else None
        return Look({}, 0.0, {self.name: len(queries)}, mean)
