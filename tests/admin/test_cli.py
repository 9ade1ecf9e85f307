"""The command `ngdata`: its output, its exit codes, and that it shows no password."""

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
    """Run it in a process of its own, which psql replaces."""
    return subprocess.run(
        [Path(sys.executable).with_name("ngdata"), *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_version():
    result = ngdata("--version")
    assert (result.exit_code, result.stdout) == (0, importlib.metadata.version("ngdata") + "\n")


def test_status_of_nothing_starts_nothing(tmp_path):
    home = tmp_path / "home"
    result = ngdata("status", NGDATA_HOME=str(home))
    assert result.exit_code == cli.NOT_RUNNING == 3
    assert "not running; `ngdata up` starts them" in result.stdout
    assert str(home) in result.stdout
    result = ngdata("status", "--json", NGDATA_HOME=str(home))
    assert result.exit_code == 3
    status = json.loads(result.stdout)
    assert (status["running"], status["database_url"], status["redis_url"]) == (False, None, None)
    assert not home.exists()


def test_status_for_programs_returns_whole_urls(server):
    result = ngdata("status", "--json")
    assert result.exit_code == 0
    status = json.loads(result.stdout)
    assert status["database_url"] == server.database_url
    assert status["redis_url"] == server.redis_url
    assert status["revision"] == revision.HEAD
    assert status["database_bytes"] > 0


def test_status_for_people_has_one_fact_per_line(server):
    result = ngdata("status")
    assert result.exit_code == 0
    facts = dict(line.split(None, 1) for line in result.stdout.splitlines())
    assert facts["servers"] == "running"
    assert facts["PostGIS"].startswith("3.")
    assert facts.get("durable", "").startswith("no") == (_local.status().durable is False)


def test_up_reuses_running_servers(server):
    result = ngdata("up")
    assert result.exit_code == 0
    assert result.stdout.startswith("running: postgresql://ngdata@/ngdata in /")
    assert _local.up(durable=False) == server


def test_down_without_servers(tmp_path):
    result = ngdata("down", NGDATA_HOME=str(tmp_path / "home"))
    assert (result.exit_code, result.stdout) == (0, "nothing was running\n")


def test_migrate_upgrades_the_configured_database(empty_database):
    result = ngdata("migrate", NGDATA_DATABASE_URL=empty_database)
    assert result.exit_code == 0
    assert result.stdout.endswith(f"is at revision {revision.HEAD}\n")
    migrate.downgrade(empty_database, "0001")
    assert ngdata("migrate", NGDATA_DATABASE_URL=empty_database).exit_code == 0


def test_migrate_with_nothing_configured_upgrades_the_embedded_database(server):
    result = ngdata("migrate")
    assert result.exit_code == 0
    assert "postgresql://ngdata@/ngdata in /" in result.stdout


@pytest.mark.parametrize("command", ["migrate", "up"])
def test_an_error_is_its_text_and_exit_code_1(command, tmp_path):
    (tmp_path / "file").write_text("")
    result = ngdata(command, NGDATA_DATABASE_URL=UNREACHABLE, NGDATA_HOME=str(tmp_path / "file"))
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("ngdata: ")
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.stderr
    assert SECRET not in result.output


def test_psql_of_the_embedded_database_passes_arguments_on(server):
    for separator in ([], ["--"]):
        result = program("psql", *separator, "-XAtc", "SELECT current_database(), current_user")
        assert (result.returncode, result.stdout, result.stderr) == (0, "ngdata|ngdata\n", "")


def test_psql_receives_the_password_in_its_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("NGDATA_DATABASE_URL", UNREACHABLE + "?sslmode=disable")
    fake_psql = tmp_path / "psql"
    fake_psql.write_text('#!/bin/sh\necho "$@"; echo "$PGPASSWORD"\n')
    fake_psql.chmod(0o755)
    # No PostgreSQL is installed, so the psql on PATH is used.
    hide = "from ngdata._local import binaries; binaries.PLACES.clear(); from ngdata.admin.cli import app; "
    result = subprocess.run(
        [sys.executable, "-c", hide + "app(['psql', '-c', 'SELECT 1'])"],
        env=os.environ | {"PATH": f"{tmp_path}:/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
    )
    url = "postgresql://me@127.0.0.1:1/neurograph?sslmode=disable"
    assert result.stdout.splitlines() == [f"{url} -c SELECT 1", SECRET], result.stderr


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
def test_a_password_is_removed_from_any_part_of_a_url(url, plain, password):
    assert postgres_url.split_password(url) == (plain, password)


def test_help_names_every_command():
    result = ngdata("--help")
    assert result.exit_code == 0
    for command in ("up", "down", "status", "migrate", "psql", "demo", "doctor", "reindex"):
        assert f" {command} " in result.stdout


def test_a_wrong_setting_names_itself():
    result = ngdata("migrate", NGDATA_DATABASE_URL="mysql://h/d")
    assert result.exit_code == 1
    assert "must begin with postgresql://" in result.stderr
