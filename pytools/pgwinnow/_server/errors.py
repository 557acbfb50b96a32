"""Errors of the embedded server."""

from __future__ import annotations

from pgwinnow._errors import WinnowError


class ServerError(WinnowError):
    """The embedded server cannot be installed, started or stopped; the message says what to do."""


class BuildError(ServerError):
    """The extension does not compile here; the message says what is missing or shows the compiler's words."""
