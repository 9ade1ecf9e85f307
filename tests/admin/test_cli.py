"""The command `ngdata`: what it prints, its exit codes, and that it shows no password."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ngdata import _local
from ngdata._config import postgres_url
from ngdata._connections import revision
from ngdata._store import migrate
from ngdata.admin import cli

SECRET = "s3cr3t word"
UNREACHABLE = "postgresql://me:s3cr3t%20word@127.0.0.1:1/neurograph"


def ngdata(*arguments: str, **environment: str):
    return CliRunner().invoke(cli.app, list(arguments), env=environment)


def program(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run it as a shell does: psql takes the process over."""
    return subprocess.run(
        [Path(sys.executable).with_name("ngdata"), *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_version():
    done = ngdata("--version")
    assert (done.exit_code, done.stdout) == (0, importlib.metadata.version("ngdata") + "\n")


def test_status_of_nothing_starts_nothing(tmp_path):
    home = tmp_path / "home"
    done = ngdata("status", NGDATA_HOME=str(home))
    assert done.exit_code == cli.NOT_RUNNING == 3
    assert "not running; `ngdata up` starts them" in done.stdout
    assert str(home) in done.stdout
    done = ngdata("status", "--json", NGDATA_HOME=str(home))
    assert done.exit_code == 3
    found = json.loads(done.stdout)
    assert (found["running"], found["database_url"], found["redis_url"]) == (False, None, None)
    assert not home.exists()


def test_status_for_programs_gives_whole_urls(server):
    done = ngdata("status", "--json")
    assert done.exit_code == 0
    found = json.loads(done.stdout)
    assert found["database_url"] == server.database_url
    assert found["redis_url"] == server.redis_url
    assert found["revision"] == revision.HEAD
    assert found["database_bytes"] > 0


def test_status_for_people_is_a_fact_a_line(server):
    done = ngdata("status")
    assert done.exit_code == 0
    facts = dict(line.split(None, 1) for line in done.stdout.splitlines())
    assert facts["servers"] == "running"
    assert facts["PostGIS"].startswith("3.")
    assert facts.get("durable", "").startswith("no") == (_local.status().durable is False)


def test_up_joins_what_runs(server):
    done = ngdata("up")
    assert done.exit_code == 0
    assert done.stdout.startswith("running: postgresql://ngdata@/ngdata in /")
    assert _local.up(durable=False) == server


def test_down_of_nothing(tmp_path):
    done = ngdata("down", NGDATA_HOME=str(tmp_path / "home"))
    assert (done.exit_code, done.stdout) == (0, "nothing was running\n")


def test_migrate_upgrades_the_configured_database(empty_database):
    done = ngdata("migrate", NGDATA_DATABASE_URL=empty_database)
    assert done.exit_code == 0
    assert done.stdout.endswith(f"is at revision {revision.HEAD}\n")
    migrate.downgrade(empty_database, "0001")
    assert ngdata("migrate", NGDATA_DATABASE_URL=empty_database).exit_code == 0


def test_migrate_with_nothing_configured_is_of_the_embedded(server):
    done = ngdata("migrate")
    assert done.exit_code == 0
    assert "postgresql://ngdata@/ngdata in /" in done.stdout


@pytest.mark.parametrize("command", ["migrate", "up"])
def test_an_error_is_its_text_and_exit_code_1(command, tmp_path):
    (tmp_path / "file").write_text("")
    done = ngdata(command, NGDATA_DATABASE_URL=UNREACHABLE, NGDATA_HOME=str(tmp_path / "file"))
    assert done.exit_code == 1
    assert done.stdout == ""
    assert done.stderr.startswith("ngdata: ")
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
    assert SECRET not in done.output


def test_psql_of_the_embedded_database_passes_arguments_on(server):
    for separator in ([], ["--"]):
        done = program("psql", *separator, "-XAtc", "SELECT current_database(), current_user")
        assert (done.returncode, done.stdout, done.stderr) == (0, "ngdata|ngdata\n", "")


def test_psql_gets_a_password_by_its_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("NGDATA_DATABASE_URL", UNREACHABLE + "?sslmode=disable")
    pretended = tmp_path / "psql"
    pretended.write_text('#!/bin/sh\necho "$@"; echo "$PGPASSWORD"\n')
    pretended.chmod(0o755)
    # No PostgreSQL is found anywhere, so the one in PATH is taken.
    hide = "from ngdata._local import binaries; binaries.PLACES.clear(); from ngdata.admin.cli import app; "
    done = subprocess.run(
        [sys.executable, "-c", hide + "app(['psql', '-c', 'SELECT 1'])"],
        env=os.environ | {"PATH": f"{tmp_path}:/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
    )
    url = "postgresql://me@127.0.0.1:1/neurograph?sslmode=disable"
    assert done.stdout.splitlines() == [f"{url} -c SELECT 1", SECRET], done.stderr


@pytest.mark.parametrize(
    ("url", "plain", "password"),
    [
        ("postgresql://h/d", "postgresql://h/d", None),
        ("postgresql://me@h/d", "postgresql://me@h/d", None),
        ("postgresql://me:p%40%3A@h:5/d", "postgresql://me@h:5/d", "p@:"),
        ("postgresql://me:p@a:1,b:2/d?x=y", "postgresql://me@a:1,b:2/d?x=y", "p"),
        ("postgresql://me@/d?host=/s&password=p%26", "postgresql://me@/d?host=%2Fs", "p&"),
        ("postgresql://me:p@h/d?password=q", "postgresql://me@h/d", "q"),
        ("postgresql://:p@[::1]:5/d", "postgresql://[::1]:5/d", "p"),
    ],
)
def test_a_password_is_removed_from_every_place(url, plain, password):
    assert postgres_url.split_password(url) == (plain, password)


def test_help_names_every_command():
    done = ngdata("--help")
    assert done.exit_code == 0
    for command in ("up", "down", "status", "migrate", "psql", "demo", "doctor", "reindex"):
        assert f" {command} " in done.stdout


def test_a_wrong_setting_names_itself():
    done = ngdata("migrate", NGDATA_DATABASE_URL="mysql://h/d")
    assert done.exit_code == 1
    assert "must begin with postgresql://" in done.stderr
