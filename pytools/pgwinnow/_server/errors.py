"""Errors of the embedded server."""

from __future__ import annotations

from pgwinnow._errors import WinnowError


class ServerError(WinnowError):
    """The embedded server cannot be installed, started or stopped."""


class BuildError(ServerError):
    """The extension does not compile here: something is missing, or the message shows the compiler's words."""
