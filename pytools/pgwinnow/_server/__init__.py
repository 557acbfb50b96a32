"""Private parts of :mod:`pgwinnow.server`.

- ``errors``: what can go wrong, for people
- ``account``: which operating-system user runs the server, and in which environment
- ``binaries``: finding PostgreSQL and keeping a private, relocatable copy of it
- ``build``: compiling the extension and installing it into a copy of the binaries
- ``postmaster``: finding, stopping and killing the server process; removing throw-away servers
"""
