"""The docstrings of installed Python packages, read from source with ``ast``; nothing is ever imported.

Every documented module, class, function and method is a text with attributes that a person would filter by.
"""

from __future__ import annotations

import ast
import datetime
import hashlib
import re
import sysconfig
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import platformdirs
import pyarrow as pa
import pyarrow.parquet as pq

DATASET = "dataset"  # folder within the demo's for the benchmark's form of the same texts
SHORTEST = 30  # characters of a docstring worth searching
LONGEST = 4000  # characters of a docstring that are kept
SKIPPED = frozenset({"test", "tests", "testing", "idle_test", "_vendor", "site-packages", "__pycache__", "lib2to3"})
SECTIONS = {
    "returns": r"^\s*(returns?\s*:?\s*$|:returns?)",
    "raises": r"^\s*(raises?\s*:?\s*$|:raises?)",
    "yields": r"^\s*(yields?\s*:?\s*$|:yields?)",
    "warns": r"^\s*(warns\s*:?\s*$|\.\. warning::)",
    "deprecated": r"deprecated",
    "new": r"\.\. versionadded::",
}
SECTION_PATTERNS = {tag: re.compile(pattern, re.IGNORECASE | re.MULTILINE) for tag, pattern in SECTIONS.items()}
EXAMPLE = re.compile(r"^\s*>>> |^\s*examples?\s*:{0,2}\s*$", re.IGNORECASE | re.MULTILINE)

SCHEMA = pa.schema(
    [
        ("package", pa.string()),
        ("module", pa.string()),
        ("name", pa.string()),
        ("kind", pa.string()),
        ("n_lines", pa.int32()),
        ("n_params", pa.int32()),
        ("has_examples", pa.bool_()),
        ("tags", pa.list_(pa.string())),
        ("modified", pa.timestamp("us", tz="UTC")),
        ("doc", pa.string()),
    ]
)

Function = ast.FunctionDef | ast.AsyncFunctionDef
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Entry:
    """One documented thing."""

    package: str  # top-level name
    module: str
    name: str  # qualified within the module; the module's own name for a module
    kind: str  # module, class, function or method
    n_lines: int
    n_params: int | None  # without self; None for modules and classes without __init__
    has_examples: bool
    tags: list[str] | None  # decorators, async, private, and sections of the docstring; None for none of these
    modified: datetime.datetime  # of the source file
    doc: str

    @property
    def is_public(self) -> bool:
        """Whether no part of its full name begins with an underscore."""
        return not any(part.startswith("_") for part in (*self.module.split("."), *self.name.split(".")))

    @property
    def key(self) -> str:
        """A digest that names the entry and is spread evenly, so that sorting by it draws a fair sample."""
        return hashlib.sha256(f"{self.module}:{self.name}:{self.doc}".encode()).hexdigest()


def source_roots() -> list[Path]:
    """The folders that packages are installed in: site-packages and the standard library."""
    paths = sysconfig.get_paths()
    return list(dict.fromkeys(Path(paths[name]) for name in ("purelib", "platlib", "stdlib")))


def source_files(roots: Sequence[Path]) -> list[tuple[Path, Path]]:
    """Python files below the roots, each with its root, without tests and vendored copies, in a fixed order."""
    found: dict[Path, Path] = {}
    for root in roots:
        for path in root.rglob("*.py"):
            inner = path.relative_to(root).parts
            importable = all(part.isidentifier() for part in (*inner[:-1], path.stem))
            if importable and not SKIPPED.intersection(inner) and not path.stem.startswith("test_"):
                found.setdefault(path, root)
    return sorted(found.items())


def collect(files: Sequence[tuple[Path, Path]], *, progress: Progress = lambda done, total: None) -> list[Entry]:
    """The documented things in the files, in the order of files and lines; parsed by one process per core."""
    entries: list[Entry] = []
    with ProcessPoolExecutor() as pool:
        for done, found in enumerate(pool.map(entries_of, files, chunksize=32), start=1):
            entries += found
            progress(done, len(files))
    return entries


def sample(entries: Sequence[Entry], count: int | None) -> list[Entry]:
    """``count`` entries (None: all), evenly from every package, so that no large one drowns the small ones.

    Public things go first. The same entries give the same sample in the same order.
    """
    distinct = {entry.key: entry for entry in entries}
    ranks = Counter[str]()
    ranked = []
    for key in sorted(distinct, key=lambda key: (not distinct[key].is_public, key)):
        package = distinct[key].package
        ranked.append((ranks[package], key))
        ranks[package] += 1
    return [distinct[key] for _, key in sorted(ranked)[:count]]


def load_or_collect(cache: Path, *, progress: Progress = lambda done, total: None) -> list[Entry]:
    """The entries of every installed package; kept in ``cache`` until a source file changes."""
    files = source_files(source_roots())
    digest = hashlib.sha256(b"2")  # of what is collected; another number after a change of this module
    for path, _ in files:
        facts = path.stat()
        digest.update(f"{path}:{facts.st_mtime_ns}:{facts.st_size}\n".encode())
    kept = cache / "entries.parquet"
    seal = digest.hexdigest().encode()
    if kept.is_file() and (pq.read_schema(kept).metadata or {}).get(b"files") == seal:
        return [Entry(**row) for row in pq.read_table(kept).to_pylist()]
    entries = collect(files, progress=progress)
    cache.mkdir(parents=True, exist_ok=True)
    pq.write_table(as_table(entries).replace_schema_metadata({b"files": seal}), kept, compression="zstd")
    return entries


def corpus_folder() -> Path:
    """Where the demo keeps what it read and embedded."""
    return platformdirs.user_cache_path("pgwinnow") / "demo"


def as_table(entries: Sequence[Entry]) -> pa.Table:
    """The entries as an Arrow table."""
    return pa.Table.from_pylist([asdict(entry) for entry in entries], schema=SCHEMA)


def entries_of(file: tuple[Path, Path]) -> list[Entry]:
    """The documented things in one file, given with its root; none where it cannot be read as Python."""
    path, root = file
    try:
        source = path.read_bytes()
        modified = datetime.datetime.fromtimestamp(int(path.stat().st_mtime), tz=datetime.timezone.utc)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other people's escapes
            tree = ast.parse(source)
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    parts = path.relative_to(root).with_suffix("").parts
    module = ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
    return list(walk(tree, module, source.count(b"\n") + 1, modified))


def walk(tree: ast.Module, module: str, lines: int, modified: datetime.datetime) -> Iterator[Entry]:
    """The module, its classes and their methods and its functions, also in nested classes, not inside functions."""
    package = module.partition(".")[0]

    def entry(node: ast.Module | ast.ClassDef | Function, name: str, kind: str) -> Iterator[Entry]:
        doc = ast.get_docstring(node)
        if doc is None or len(doc) < SHORTEST:
            return
        # Lone surrogates and NUL bytes have no place in a text column.
        text = doc[:LONGEST].encode(errors="replace").decode().replace("\0", "")
        yield Entry(
            package=package,
            module=module,
            name=name,
            kind=kind,
            n_lines=lines if isinstance(node, ast.Module) else (node.end_lineno or node.lineno) - node.lineno + 1,
            n_params=parameters(node, method=kind == "method"),
            has_examples=EXAMPLE.search(text) is not None,
            tags=tags_of(node, name, text),
            modified=modified,
            doc=text,
        )

    def inside(body: Sequence[ast.stmt], prefix: str, in_class: bool) -> Iterator[Entry]:
        for node in body:
            if isinstance(node, ast.ClassDef):
                yield from entry(node, prefix + node.name, "class")
                yield from inside(node.body, f"{prefix}{node.name}.", in_class=True)
            elif isinstance(node, Function):
                yield from entry(node, prefix + node.name, "method" if in_class else "function")
            elif isinstance(node, ast.If | ast.Try):
                yield from inside(node.body, prefix, in_class)

    yield from entry(tree, module, "module")
    yield from inside(tree.body, "", in_class=False)


def parameters(node: ast.Module | ast.ClassDef | Function, *, method: bool) -> int | None:
    """How many parameters a call takes, without self or cls; None where no signature is written down."""
    if isinstance(node, ast.Module):
        return None
    if isinstance(node, ast.ClassDef):
        made_by = [each for each in node.body if isinstance(each, Function) and each.name == "__init__"]
        return parameters(made_by[-1], method=True) if made_by else None
    arguments = node.args
    count = len(arguments.posonlyargs) + len(arguments.args) + len(arguments.kwonlyargs)
    count += (arguments.vararg is not None) + (arguments.kwarg is not None)
    bound = method and "staticmethod" not in decorators(node)
    return max(0, count - bound)


def decorators(node: ast.ClassDef | Function) -> list[str]:
    """The last names of a definition's decorators: ``functools.cache`` gives ``cache``."""
    names = []
    for decorator in node.decorator_list:
        target = decorator.func if isinstance(decorator, ast.Call) else decorator
        if isinstance(target, ast.Attribute):
            names.append(target.attr)
        elif isinstance(target, ast.Name):
            names.append(target.id)
    return names


def tags_of(node: ast.Module | ast.ClassDef | Function, name: str, doc: str) -> list[str] | None:
    """Words one would filter by: decorators, async, private, and what the docstring has a section on."""
    tags = set() if isinstance(node, ast.Module) else set(decorators(node))
    if isinstance(node, ast.AsyncFunctionDef):
        tags.add("async")
    own = name.rpartition(".")[2]
    if own.startswith("_") and not own.endswith("__"):
        tags.add("private")
    tags.update(tag for tag, pattern in SECTION_PATTERNS.items() if pattern.search(doc))
    return sorted(tags) or None
