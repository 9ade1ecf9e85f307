"""The command `ngdata`: the embedded servers, the schema of any database, psql, the demo.

An error of ngdata ends a command with its text on stderr and exit code 1, without a traceback.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

import typer
from typer.core import TyperGroup

from ngdata import _local
from ngdata._config import postgres_url
from ngdata._config.settings import load_settings
from ngdata._local.fallback import located
from ngdata.errors import NGDataError

__all__ = ["app"]

NOT_RUNNING = 3


class _Commands(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except NGDataError as error:
            typer.echo(f"ngdata: {error}", err=True)
            raise typer.Exit(1) from None


app = typer.Typer(
    cls=_Commands,
    help="Spatial token graphs as pandas frames, on PostGIS.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(importlib.metadata.version("ngdata"))
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show it.")
    ] = False,
) -> None:
    pass


@app.command()
def up() -> None:
    """Start the embedded servers, or join them, migrated to the newest schema."""
    addresses = _local.up()
    typer.echo(f"running: {postgres_url.shown(addresses.database_url)}")
    typer.echo("stop it with `ngdata down`; `ngdata status` tells more")


@app.command()
def down() -> None:
    """Stop the embedded servers; the data stay."""
    typer.echo("stopped" if _local.down() else "nothing was running")


@app.command()
def status(
    as_json: Annotated[
        bool, typer.Option("--json", help="For programs: whole URLs, sizes in bytes.")
    ] = False,
) -> None:
    """Look at the embedded servers and start nothing; exit code 3 if they do not run."""
    found = _local.status()
    if as_json:
        typer.echo(json.dumps(_as_json(found), indent=2))
    else:
        _print_status(found)
    if not found.running:
        raise typer.Exit(NOT_RUNNING)


@app.command()
def migrate() -> None:
    """Bring the configured database to the newest schema; with none configured, the embedded."""
    from ngdata._connections.revision import HEAD
    from ngdata._store.migrate import upgrade

    url = _configured_url()
    upgrade(url)
    typer.echo(f"{postgres_url.shown(url)} is at revision {HEAD}")


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Look for what is wrong, and say what to do; exit code 1 if anything is."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from ngdata.admin.doctor import examine

    with Console(stderr=True).status("looking") as shown:
        found = examine(on_check=lambda check: shown.update(f"looking at: {check}"))
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(finding) for finding in found], indent=2))
    else:
        table = Table("check", "", "found", box=None)
        colors = {"ok": "green", "note": "yellow", "wrong": "red"}
        for finding in found:
            state = f"[{colors[finding.state]}]{finding.state}[/]"
            table.add_row(finding.check, state, escape(finding.observed))
            if finding.advice is not None:
                table.add_row("", "", escape(f"-> {finding.advice}"))
        Console().print(table)
    if any(finding.state == "wrong" for finding in found):
        raise typer.Exit(1)


@app.command()
def reindex() -> None:
    """Bring the spatial index back in step with the tokens."""
    from ngdata.admin.reindex import reindex as rebuilt

    done = rebuilt()
    if done.removed or done.added:
        typer.echo(
            f"the spatial index was not in step: {done.removed} rows taken out, {done.added} put in"
        )
    else:
        typer.echo("the spatial index was in step; nothing was changed")


@app.command()
def optimize(
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Put the spatial index in the order of space, level by level; reads of regions wait."""
    from ngdata.admin.optimize import optimize as reordered

    for done in reordered(progress=False if quiet else None):
        typer.echo(str(done))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def psql(context: typer.Context) -> None:
    """Open psql on the configured database; what follows goes to psql."""
    from ngdata._local.binaries import find_psql

    url, password = _without_password(_configured_url())
    # In the environment: a command line can be read by every user of the machine.
    environment = dict(os.environ) if password is None else os.environ | {"PGPASSWORD": password}
    program = find_psql()
    os.execve(program, [str(program), url, *context.args], environment)  # noqa: S606 - no shell


@app.command()
def demo() -> None:
    """Load a real nervous system and show it as frames."""
    from ngdata.datasets.demo import run

    run()


_File = Annotated[Path, typer.Argument(help="Records end to end.", exists=True, dir_okay=False)]
_SkipBad = Annotated[
    bool, typer.Option("--skip-bad", help="Leave out records that cannot be stored (NaN).")
]
_Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]


@app.command()
def load_tokens(
    file: _File,
    dialect: Annotated[str, typer.Option(help="Who wrote it: python or rust.")] = "python",
    skip_bad: _SkipBad = False,
    initial: Annotated[
        bool, typer.Option("--initial", help="The store is empty: index it after the load.")
    ] = False,
    quiet: _Quiet = False,
) -> None:
    """Write a file of 64-byte token records into the configured store: all, or nothing."""
    _load(file, "tokens", skip_bad, quiet, dialect, initial=initial)


@app.command()
def load_connections(file: _File, skip_bad: _SkipBad = False, quiet: _Quiet = False) -> None:
    """Write a file of 32-byte connection records into the store, after their tokens."""
    _load(file, "connections", skip_bad, quiet)


@app.command()
def load_events(file: _File, skip_bad: _SkipBad = False, quiet: _Quiet = False) -> None:
    """Write a file of 128-byte event records into the store; an episode is a trajectory."""
    _load(file, "events", skip_bad, quiet)


def _load(
    file: Path,
    kind: Any,
    skip_bad: bool,
    quiet: bool,
    dialect: Any = "python",
    *,
    initial: bool = False,
) -> None:
    from ngdata._client.connect import connect
    from ngdata.binary.loading import load_records

    with connect() as ng:
        loaded = load_records(
            ng,
            file,
            kind,
            dialect=dialect,
            on_bad="skip" if skip_bad else "raise",
            initial=initial,
            progress=not quiet,
        )
    typer.echo(str(loaded))


def _configured_url() -> str:
    url = located(load_settings()).database_url
    assert url is not None
    return url.get_secret_value()


def _without_password(url: str) -> tuple[str, str | None]:
    """Take the password out of a URL, wherever it stands in it."""
    parts = urlsplit(url)
    user, at, hosts = parts.netloc.rpartition("@")
    user, colon, password = user.partition(":")
    query = parse_qsl(parts.query, keep_blank_values=True)
    passwords = [unquote(password)] if colon else []
    passwords += [value for name, value in query if name == "password"]
    rest = urlencode([(n, v) for n, v in query if n != "password"], quote_via=quote)
    plain = urlunsplit(parts._replace(netloc=user + at + hosts, query=rest))
    # libpq lets the query's word stand.
    return plain, passwords[-1] if passwords else None


def _as_json(found: _local.Status) -> dict[str, Any]:
    fields = dataclasses.asdict(found)
    addresses = fields.pop("addresses") or {"database_url": None, "redis_url": None}
    both = addresses | fields
    return {name: str(v) if isinstance(v, Path) else v for name, v in both.items()}


def _print_status(found: _local.Status) -> None:
    state = "running" if found.running else "not running; `ngdata up` starts them"
    rows: list[tuple[str, object]] = [("servers", state), ("home", found.home)]
    if found.addresses is not None:
        rows += [
            ("database", postgres_url.shown(found.addresses.database_url)),
            ("redis", found.addresses.redis_url),
        ]
    rows += [
        ("PostgreSQL", found.postgres),
        ("PostGIS", found.postgis),
        ("Redis", found.redis),
        ("schema", found.revision),
        ("data and logs", found.directory),
        ("run as user", found.server_user),
        ("database size", _megabytes(found.database_bytes)),
        ("cache size", _megabytes(found.redis_bytes)),
    ]
    if found.durable is False:
        rows.append(("durable", "no: a crash of the machine may lose data"))
    for name, value in rows:
        if value is not None:
            typer.echo(f"{name:<15}{value}")


def _megabytes(size: int | None) -> str | None:
    return None if size is None else f"{size / 1e6:.1f} MB"
