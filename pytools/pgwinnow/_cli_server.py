"""The commands ``pgwinnow server start|stop|status|psql``."""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from pgwinnow._cli_common import Json, split_pairs
from pgwinnow._server import postmaster
from pgwinnow.server import Server

app = typer.Typer(
    help="Run an embedded PostgreSQL server with winnow installed.", no_args_is_help=True, add_completion=False
)

DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Folder of the cluster; by default one per user and version.", show_default=False),
]
Version = Annotated[int, typer.Option("--version", help="PostgreSQL's major version: 18, 16, or Debian's 15.")]
Database = Annotated[str, typer.Option("--dbname", "-d", help="Database to connect to.")]


class StopMode(str, Enum):
    """The ways to stop a server."""

    SMART = "smart"
    FAST = "fast"
    IMMEDIATE = "immediate"


@app.command()
def start(
    data_dir: DataDir = None,
    version: Version = 18,
    port: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65535,
            help="Also listen on localhost at this port until it is stopped. There a password is needed: set one by"
            " ALTER ROLE postgres PASSWORD '...'.",
        ),
    ] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A server setting; may be repeated.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Start the server, after installing PostgreSQL and building the extension when that is needed."""
    settings = split_pairs("--set", setting, "work_mem=64MB", empty=True)
    server = Server(data_dir, version=version, port=port, settings=settings)
    before = postmaster.find(server.data_dir)
    server.start()
    after = postmaster.find(server.data_dir)
    if (port is not None or setting) and before is not None and after is not None and before.process == after.process:
        typer.echo("note: it was running already; --port and --set count after: pgwinnow server stop", err=True)
    _report(server, as_json)


@app.command()
def stop(
    data_dir: DataDir = None,
    version: Version = 18,
    mode: Annotated[StopMode, typer.Option(help="As for pg_ctl.")] = StopMode.FAST,
    as_json: Json = False,
) -> None:
    """Stop the server; does nothing when it does not run."""
    server = Server(data_dir, version=version)
    server.stop(mode.value)
    _report(server, as_json)


@app.command()
def status(data_dir: DataDir = None, version: Version = 18, as_json: Json = False) -> None:
    """Show whether the server runs and how to connect to it; exit status 3 when it does not run."""
    server = Server(data_dir, version=version)
    server.version = server.cluster_version or version
    _report(server, as_json)
    if server.status != "running":
        raise typer.Exit(3)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def psql(
    context: typer.Context, data_dir: DataDir = None, version: Version = 18, dbname: Database = "postgres"
) -> None:
    """Open psql on the server, starting it first; further arguments go to psql."""
    server = Server(data_dir, version=version)
    server.start()
    raise typer.Exit(server.psql(*context.args, dbname=dbname))


def _report(server: Server, as_json: bool) -> None:
    facts = {
        "status": server.status,
        "version": server.version,
        "dsn": server.dsn(),
        "data_dir": str(server.data_dir),
        "log": str(server.log_path),
    }
    if as_json:
        typer.echo(json.dumps(facts))
        return
    for name, value in facts.items():
        typer.echo(f"{name:<9} {value}")
