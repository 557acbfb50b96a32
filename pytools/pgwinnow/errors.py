"""What can go wrong, as one tree.

    WinnowError                  everything below; has .hint, the way out, when there is one
    ├── ConnectionFailed         no database was named, or it cannot be reached
    ├── ServerError              the embedded server could not be installed, started or stopped
    │   └── BuildError           the extension does not compile here
    ├── MissingExtra             an optional dependency is not installed
    ├── ExtensionMissing         the database has no vector type or no winnow access method
    ├── UnknownName              no such table, column, index or metric
    ├── LoadError                a file was not loaded; nothing of it is in the table
    │   ├── FileFormatError      the file cannot be read, or its parts do not fit together
    │   └── ValueRefused         a value in the file does not fit its column
    ├── EmbedError               texts could not be turned into vectors
    │   ├── ModelMissing         the model is not on this machine
    │   └── ModelMismatch        the column already holds another model's vectors
    ├── IndexBuildError          CREATE INDEX failed
    ├── IndexDamaged             an index does not hold what it should
    └── QueryError               a search could not be run

Errors the server reports stay reachable as ``__cause__`` (a ``psycopg.Error``).
"""

from __future__ import annotations

__all__ = [
    "BuildError",
    "ConnectionFailed",
    "EmbedError",
    "ExtensionMissing",
    "FileFormatError",
    "IndexBuildError",
    "IndexDamaged",
    "LoadError",
    "MissingExtra",
    "ModelMismatch",
    "ModelMissing",
    "QueryError",
    "ServerError",
    "UnknownName",
    "ValueRefused",
    "WinnowError",
]


class WinnowError(Exception):
    """Base of all errors of this package.

    ``str(error)`` says what is wrong and names the value; ``error.hint`` says what to do about it.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class ConnectionFailed(WinnowError):
    """No database was named, or it cannot be reached."""


class ServerError(WinnowError):
    """The embedded server cannot be installed, started or stopped."""


class BuildError(ServerError):
    """The extension does not compile here: something is missing, or the message shows the compiler's words."""


class MissingExtra(WinnowError):
    """An optional dependency is not installed."""

    def __init__(self, module: str, extra: str) -> None:
        super().__init__(
            f"this needs the Python module {module!r}, which is not installed",
            f"pip install 'pgwinnow[{extra}]'",
        )


class ExtensionMissing(WinnowError):
    """The database has no vector type, or no winnow access method."""


class UnknownName(WinnowError):
    """No such table, column, index or metric."""


class LoadError(WinnowError):
    """A file was not loaded; nothing of it is in the table."""


class FileFormatError(LoadError):
    """The file cannot be read, or its parts do not fit together."""


class ValueRefused(LoadError):
    """A value in the file does not fit its column."""


class EmbedError(WinnowError):
    """Texts could not be turned into vectors."""


class ModelMissing(EmbedError):
    """The model is not on this machine."""


class ModelMismatch(EmbedError):
    """The column already holds another model's vectors."""


class IndexBuildError(WinnowError):
    """CREATE INDEX failed."""


class IndexDamaged(WinnowError):
    """An index does not hold what it should."""


class QueryError(WinnowError):
    """A search could not be run."""
