"""The demo: reading docstrings, remembering vectors, and the whole of it on a small corpus with a made-up model."""

from __future__ import annotations

import datetime
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from rich.console import Console

from cluster import VERSION, Cluster
from pgwinnow.demo import cli
from pgwinnow.demo.corpus import Entry, as_table, entries_of, load_or_collect, sample, source_files
from pgwinnow.demo.searches import SEARCHES
from pgwinnow.demo.vectors import VectorStore
from pgwinnow.errors import WinnowError

SOURCE = '''"""A module that must not be imported, because that fails."""
raise RuntimeError("imported")

class Reader:
    """Reads rows from a file, one at a time, until there are none."""

    def __init__(self, path, *, encoding="utf-8"):
        self.path = path

    @property
    def rows(self):
        """The rows that were read so far, in the order of the file.

        Returns
        -------
        list
        """

    @staticmethod
    def sniff(sample):
        """Guess the dialect of a sample of text from its delimiters.

        >>> Reader.sniff("a,b")
        """

class Bare:
    """A class that does not say how it is made, in a few words."""

async def _fetch(url, *parts, timeout=None, **more):
    """Fetch something from somewhere and wait for it to arrive.

    :raises OSError: if it does not arrive
    """
    def inner():
        """Inside a function nobody can find this one, so it is left out."""

def short():
    """Too short."""
'''


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder of packages with one module, one test and one file that is no Python."""
    folder = tmp_path / "site" / "pack"
    (folder / "tests").mkdir(parents=True)
    (folder / "reading.py").write_text(SOURCE)
    (folder / "tests" / "test_reading.py").write_text(SOURCE)
    (folder / "broken.py").write_text("def (:\n")
    return folder.parent


def test_entries_are_read_without_importing(package: Path) -> None:
    entries = {entry.name: entry for file in source_files([package]) for entry in entries_of(file)}
    assert set(entries) == {"pack.reading", "Reader", "Reader.rows", "Reader.sniff", "Bare", "_fetch"}
    assert {entry.package for entry in entries.values()} == {"pack"}
    assert {name: entry.kind for name, entry in entries.items()} == {
        "pack.reading": "module",
        "Reader": "class",
        "Reader.rows": "method",
        "Reader.sniff": "method",
        "Bare": "class",
        "_fetch": "function",
    }
    assert {name: entry.n_params for name, entry in entries.items()} == {
        "pack.reading": None,
        "Reader": 2,
        "Reader.rows": 0,
        "Reader.sniff": 1,
        "Bare": None,
        "_fetch": 4,
    }
    assert entries["Reader.rows"].tags == ["property", "returns"]
    assert entries["_fetch"].tags == ["async", "private", "raises"]
    assert entries["Bare"].tags is None
    assert [name for name, entry in entries.items() if entry.has_examples] == ["Reader.sniff"]
    assert entries["Bare"].n_lines == 2
    assert entries["pack.reading"].modified.tzinfo is datetime.timezone.utc


def test_entries_are_kept_until_a_file_changes(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pgwinnow.demo.corpus.source_roots", lambda: [package])
    cache = tmp_path / "cache"
    read: list[int] = []
    first = load_or_collect(cache, progress=lambda done, total: read.append(done))
    assert read
    read.clear()
    assert load_or_collect(cache, progress=lambda done, total: read.append(done)) == first
    assert not read
    (package / "pack" / "more.py").write_text('"""Another module, which was written only now."""\n')
    assert len(load_or_collect(cache)) == len(first) + 1


def entry(package: str, name: str) -> Entry:
    modified = datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc)
    doc = f"What {name} of package {package} does, in so many words."
    return Entry(package, f"{package}.m", name, "function", 3, len(name), False, None, modified, doc)


def test_sample_takes_evenly_from_packages_and_public_things_first() -> None:
    large = [entry("large", f"f{i}") for i in range(100)]
    small = [entry("small", "a"), entry("small", "_hidden")]
    chosen = sample([*large, *small], 4)
    assert sorted(each.package for each in chosen) == ["large", "large", "small", "small"]
    assert [each.name for each in chosen if each.package == "small"] == ["a", "_hidden"]
    assert sample([*reversed(large), *small], 4) == chosen
    assert len(sample([*large, *small], None)) == 102


class Letters:
    """A model that counts letters, and the texts it was asked for."""

    name = "letters/v1"
    dimensions = 26

    def __init__(self) -> None:
        self.asked: list[str] = []

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        self.asked += texts
        counts = [[text.lower().count(chr(ord("a") + i)) + 0.1 for i in range(26)] for text in texts]
        return np.array(counts, dtype=np.float32)


def test_vectors_are_computed_once(tmp_path: Path) -> None:
    model = Letters()
    texts = ["first", "second", "first", "third and longer"]
    vectors, new = VectorStore(tmp_path, model).vectors(texts)
    assert new == 3
    np.testing.assert_array_equal(vectors, model.embed(texts).astype(np.float16))
    model.asked.clear()
    again, new = VectorStore(tmp_path, model).vectors([*texts, "fourth"])
    assert (new, model.asked) == (1, ["fourth"])
    np.testing.assert_array_equal(again[:4], vectors)


@pytest.mark.parametrize("left", [0, 3, 4, 50, -1])
def test_torn_vector_files_are_repaired(tmp_path: Path, left: int) -> None:
    model = Letters()
    texts = ["first", "second", "third"]
    store = VectorStore(tmp_path, model)
    vectors, _ = store.vectors(texts)
    store.path.write_bytes(store.path.read_bytes()[:left])
    for _ in range(2):
        np.testing.assert_array_equal(VectorStore(tmp_path, model).vectors(texts)[0], vectors)


def test_demo_runs_and_repeats_nothing(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("file", "task", "lock", "date", "number", "text", "sample", "query")
    names = ("asyncio", "email", "csv", "psycopg")
    entries = [entry(names[i % 4], f"{words[i % 7]}_{words[i % 8]}_{i}") for i in range(600)]
    assert len(as_table(entries)) == 600
    monkeypatch.setattr(cli, "load_or_collect", lambda folder, progress: entries)
    monkeypatch.setattr(cli, "corpus_folder", lambda: tmp_path)
    model = Letters()
    outputs = []
    for _ in range(2):
        console = Console(file=io.StringIO(), width=160)
        found = cli.run(console, cluster.server, None, fresh=False, provider=model)
        outputs.append(console.file.getvalue())  # type: ignore[attr-defined]
        assert [each.search for each in found] == list(SEARCHES)
        for each in found:
            winnow, *rivals = each.outcomes
            assert len(rivals) == (0 if VERSION == 15 else 2)
            assert winnow.rows == winnow.expected == min(10, each.matching)
            assert len(each.hits) == winnow.rows
            assert winnow.recall >= 0.5
    assert "table docs loaded and indexed" in outputs[0]
    assert "table docs is loaded and indexed already" in outputs[1]
    assert len(set(model.asked)) == len(model.asked) == len(entries) + len(SEARCHES)


def test_demo_says_what_is_missing(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "load_or_collect", lambda folder, progress: [entry("a", "b")])
    monkeypatch.setattr(cli, "corpus_folder", lambda: tmp_path)
    with pytest.raises(WinnowError, match="only 1 docstrings were found"):
        cli.run(Console(file=io.StringIO()), cluster.server, None, fresh=False, provider=Letters())
