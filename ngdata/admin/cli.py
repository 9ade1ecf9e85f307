"""The command `ngdata`: embedded servers, schema, maintenance, psql, file loads and the demo.

An error of ngdata ends a command with its text on stderr and exit code 1, without a traceback.
Each command imports what it runs, so that help and short commands answer at once.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from ngdata.errors import ConfigError, InvalidQueryError, NGDataError

if TYPE_CHECKING:
    from ngdata._local import Status

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


def _print_version(is_requested: bool) -> None:
    if is_requested:
        typer.echo(importlib.metadata.version("ngdata"))
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    pass


@app.command()
def up() -> None:
    """Start or join the embedded servers, and migrate them to the newest schema."""
    from ngdata import _local
    from ngdata._config import postgres_url

    addresses = _local.up()
    typer.echo(f"running: {postgres_url.without_password(addresses.database_url)}")
    typer.echo("`ngdata status` shows details, `ngdata down` stops it")


@app.command()
def down(
    delete_data: Annotated[
        bool, typer.Option("--delete-data", help="Delete the data too, after asking.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do not ask: for scripts, with --delete-data.")
    ] = False,
) -> None:
    """Stop the embedded servers; the data are kept, unless --delete-data is given."""
    from ngdata import _local

    if delete_data:
        _delete_data(yes)
    elif yes:
        raise ConfigError("--yes answers the question of --delete-data; give both, or neither")
    else:
        typer.echo("stopped" if _local.down() else "nothing was running")


def _delete_data(is_confirmed: bool) -> None:
    from ngdata import _local
    from ngdata._local.binaries import programs_directory

    found = _local.removable()
    if found is None:
        typer.echo(f"there are no data to delete in {_local.default_home()}")
        return
    if not is_confirmed:
        if not sys.stdin.isatty():
            raise ConfigError(
                f"--delete-data would delete all data in {found.directory}, but cannot ask without a "
                "terminal; nothing was deleted. In a script, add --yes"
            )
        typer.echo(f"This deletes every token, connection, event and pin in {found.directory},")
        typer.echo(f"{_megabytes(found.size)}, for good. Programs that use them fail.")
        if input("Type yes to delete them: ").strip().lower() != "yes":
            typer.echo("nothing was deleted, and nothing was stopped")
            raise typer.Exit(1)
    deleted = _local.delete_data()
    if deleted is not None:
        typer.echo(f"stopped, and deleted {deleted.directory}: {_megabytes(deleted.size)} are free")
        programs = programs_directory(deleted.home)
        if programs.exists():
            typer.echo(
                f"the servers' programs stay in {programs}; remove that directory to uninstall them"
            )


@app.command("install-servers")
def install_servers(
    if_missing: Annotated[
        bool, typer.Option("--if-missing", help="Do nothing if this machine has the servers.")
    ] = False,
) -> None:
    """Install PostgreSQL, PostGIS and Redis for this user, without root (Debian, Ubuntu)."""
    from ngdata._local import packages

    if if_missing and not packages.is_missing():
        return
    installed = packages.install(lambda text: typer.echo(f"{text} ..."))
    typer.echo(
        f"PostgreSQL {installed.postgres}, PostGIS {installed.postgis} and Redis {installed.redis} are in "
        f"{installed.directory}; remove that directory to uninstall them"
    )


@app.command()
def status(
    as_json: Annotated[
        bool, typer.Option("--json", help="For programs: whole URLs, sizes in bytes.")
    ] = False,
) -> None:
    """Show the embedded servers without starting them; exit code 3 if they do not run."""
    from ngdata import _local

    state = _local.status()
    if as_json:
        typer.echo(json.dumps(_as_json(state), indent=2))
    else:
        _print_status(state)
    if not state.running:
        raise typer.Exit(NOT_RUNNING)


@app.command()
def migrate() -> None:
    """Migrate the configured database, by default the embedded one, to the newest schema."""
    from ngdata._config import postgres_url
    from ngdata._connections.revision import HEAD
    from ngdata._store.migrate import upgrade

    url = _configured_url()
    upgrade(url)
    typer.echo(f"{postgres_url.without_password(url)} is at revision {HEAD}")


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Check everything that ngdata depends on and advise; exit code 1 if a check fails."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from ngdata.admin.doctor import examine

    with Console(stderr=True).status("checking") as progress:
        findings = examine(on_check=lambda check: progress.update(f"checking: {check}"))
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=2))
    else:
        table = Table("check", "", "found", box=None)
        colors = {"ok": "green", "note": "yellow", "wrong": "red"}
        for finding in findings:
            state = f"[{colors[finding.state]}]{finding.state}[/]"
            table.add_row(finding.check, state, escape(finding.observed))
            if finding.advice is not None:
                table.add_row("", "", escape(f"-> {finding.advice}"))
        Console().print(table)
    if any(finding.state == "wrong" for finding in findings):
        raise typer.Exit(1)


@app.command()
def reindex() -> None:
    """Repair the spatial index so that it matches the tokens."""
    from ngdata.admin.reindex import reindex as repair_index

    result = repair_index()
    if result.removed or result.added:
        typer.echo(
            "the spatial index did not match the tokens: "
            f"{result.removed} rows removed, {result.added} added"
        )
    else:
        typer.echo("the spatial index matches the tokens; nothing was changed")


@app.command()
def optimize(
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Sort the spatial index by position, level by level; reads of regions wait."""
    from ngdata.admin.optimize import optimize as sort_index

    for level in sort_index(progress=False if quiet else None):
        typer.echo(str(level))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def psql(context: typer.Context) -> None:
    """Open psql on the configured database; further arguments are passed to psql."""
    from ngdata._config import postgres_url
    from ngdata._local.binaries import find_psql

    url, password = postgres_url.split_password(_configured_url())
    # Passed in the environment: every user of the machine can read a command line.
    environment = dict(os.environ) if password is None else os.environ | {"PGPASSWORD": password}
    program = find_psql()
    os.execve(program, [str(program), url, *context.args], environment)  # noqa: S606 - no shell


@app.command()
def demo(
    picture: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The HTML file of the picture: ngdata-demo.html by default.",
            dir_okay=False,
        ),
    ] = None,
) -> None:
    """Load a real nervous system, show it as frames, and draw it."""
    from ngdata.datasets.demo import run

    run(picture)


_File = Annotated[
    Path, typer.Argument(help="A file of records without separators.", exists=True, dir_okay=False)
]
_SkipBad = Annotated[
    bool, typer.Option("--skip-bad", help="Skip records that cannot be stored (NaN).")
]
_Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]


@app.command()
def load(
    file: Annotated[
        Path,
        typer.Argument(help="A .csv, .tsv, .csv.gz, .tsv.gz or .parquet file.", dir_okay=False),
    ],
    kind: Annotated[
        str, typer.Option(help="What the rows are: tokens, connections or events.")
    ] = "tokens",
    map: Annotated[  # noqa: A002 - the name of the option
        list[str] | None,
        typer.Option(
            metavar="OURS=THEIRS",
            help="A column that has another name in the file: x=X. Repeatable.",
        ),
    ] = None,
    level: Annotated[
        str | None, typer.Option(help="The level of the tokens' x, y and z; 0 by default.")
    ] = None,
    extra: Annotated[
        str, typer.Option(help="Columns that are not known: refuse, or put them into metadata.")
    ] = "refuse",
    on_conflict: Annotated[
        str, typer.Option(help="Rows whose id exists: error, skip or update.")
    ] = "error",
    id_space: Annotated[
        str | None, typer.Option(help="The space of ids that are integers, as in connect.")
    ] = None,
    initial: Annotated[
        bool, typer.Option("--initial", help="The store is empty: index it after the load.")
    ] = False,
    quiet: _Quiet = False,
) -> None:
    """Load a CSV or Parquet file into the configured store, in one transaction."""
    from ngdata._client.sync.connect import connect
    from ngdata.files import load as load_file

    columns: dict[str, str] = {}
    for pair in map or []:
        ours, equals, theirs = pair.partition("=")
        if not equals or ours in columns:
            raise InvalidQueryError(
                f"--map must name each column once, as OURS=THEIRS, for instance x=X; not {pair!r}"
            )
        columns[ours] = theirs
    with connect(id_space=id_space) as ng:
        loaded = load_file(
            ng,
            file,
            kind,  # type: ignore[arg-type]  # checked there
            columns=columns,
            level=int(level) if level is not None and level.isdigit() else level,
            extra=extra,  # type: ignore[arg-type]
            on_conflict=on_conflict,  # type: ignore[arg-type]
            initial=initial,
            progress=not quiet,
        )
    typer.echo(str(loaded))


@app.command()
def load_tokens(
    file: _File,
    dialect: Annotated[
        str, typer.Option(help="The program that wrote the file: python or rust.")
    ] = "python",
    skip_bad: _SkipBad = False,
    initial: Annotated[
        bool, typer.Option("--initial", help="The store is empty: index it after the load.")
    ] = False,
    quiet: _Quiet = False,
) -> None:
    """Load a file of 64-byte token records into the configured store, in one transaction."""
    _load(file, "tokens", skip_bad, quiet, dialect, initial=initial)


@app.command()
def load_connections(file: _File, skip_bad: _SkipBad = False, quiet: _Quiet = False) -> None:
    """Load a file of 32-byte connection records into the store; their tokens must exist."""
    _load(file, "connections", skip_bad, quiet)


@app.command()
def load_events(file: _File, skip_bad: _SkipBad = False, quiet: _Quiet = False) -> None:
    """Load a file of 128-byte event records into the store; an episode becomes a trajectory."""
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
    from ngdata._client.sync.connect import connect
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
    from ngdata._config.settings import load_settings
    from ngdata._local.fallback import resolve_servers

    url = resolve_servers(load_settings()).database_url
    assert url is not None
    return url.get_secret_value()


def _as_json(state: Status) -> dict[str, Any]:
    fields = dataclasses.asdict(state)
    addresses = fields.pop("addresses") or {"database_url": None, "redis_url": None}
    values = addresses | fields
    return {name: str(v) if isinstance(v, Path) else v for name, v in values.items()}


def _print_status(state: Status) -> None:
    from ngdata._config import postgres_url

    summary = "running" if state.running else "not running; `ngdata up` starts them"
    rows: list[tuple[str, object]] = [("servers", summary), ("home", state.home)]
    if state.addresses is not None:
        rows += [
            ("database", postgres_url.without_password(state.addresses.database_url)),
            ("redis", state.addresses.redis_url),
        ]
    rows += [
        ("PostgreSQL", state.postgres),
        ("PostGIS", state.postgis),
        ("Redis", state.redis),
        ("schema", state.revision),
        ("data and logs", state.directory),
        ("run as user", state.server_user),
        ("database size", _megabytes(state.database_bytes)),
        ("cache size", _megabytes(state.redis_bytes)),
    ]
    if state.durable is False:
        rows.append(("durable", "no: a crash of the machine may lose data"))
    for name, value in rows:
        if value is not None:
            typer.echo(f"{name:<15}{value}")


def _megabytes(size: int | None) -> str | None:
    return None if size is None else f"{size / 1e6:.1f} MB"
