"""docker-compose.yml: valid, reachable from this machine only, and consistent with ngdata and `.env`.

No Docker is needed: local servers run with the arguments and variables of the containers.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dotenv
import pytest
import redis
import yaml

import ngdata
from ngdata._connections import revision
from ngdata._local.account import account_for
from ngdata._local.binaries import find_postgres, find_redis
from tests.conftest import ROOT
from tests.faults.conftest import wait_until

COMPOSE = ROOT / "docker-compose.yml"
TEXT = COMPOSE.read_text("utf-8")
SERVICES: dict[str, Any] = yaml.safe_load(TEXT)["services"]
SERVERS, TOOLS = {"postgres", "redis"}, {"pgadmin", "redis-commander"}
PASSWORD = "p@ss: $word/#1"

_REFERENCE = re.compile(r"\$(?:\$|\{(\w+)(?::([-?])([^}]*))?\})")


def resolve(value: Any, environment: dict[str, str | None]) -> Any:
    """Replace references as Compose does: `:?` and `:-` treat an empty variable as missing."""

    def substitute(match: re.Match[str]) -> str:
        name, kind, rest = match.groups()
        if name is None:
            return "$"
        if setting := environment.get(name):
            return setting
        if kind == "?":
            raise LookupError(rest)
        return rest or ""

    if isinstance(value, dict):
        return {key: resolve(item, environment) for key, item in value.items()}
    if isinstance(value, list):
        return [resolve(item, environment) for item in value]
    return _REFERENCE.sub(substitute, value) if isinstance(value, str) else value


def test_the_file_is_valid_by_the_specification():
    program = Path(sys.executable).with_name("check-jsonschema")
    subprocess.run([program, "--builtin-schema", "vendor.compose-spec", COMPOSE], check=True)


def test_only_the_servers_start_by_default():
    assert {name for name, service in SERVICES.items() if "profiles" not in service} == SERVERS
    assert {name for name, s in SERVICES.items() if s.get("profiles") == ["tools"]} == TOOLS


@pytest.mark.parametrize("name", sorted(SERVERS | TOOLS))
def test_ports_are_published_on_this_machine_only(name):
    for port in SERVICES[name]["ports"]:
        assert re.fullmatch(r"127\.0\.0\.1:\$\{\w+:-\d+\}:\d+", port), port
    assert "network_mode" not in SERVICES[name]


@pytest.mark.parametrize("name", sorted(SERVERS | TOOLS))
def test_images_are_pinned_and_name_no_registry(name):
    image, _, tag = SERVICES[name]["image"].partition(":")
    assert re.search(r"\d", tag), "a version, not latest"
    assert "." not in image.partition("/")[0], "the registry is the one that Docker is set up for"


@pytest.mark.parametrize("name", sorted(SERVERS))
def test_servers_have_health_checks_and_volumes(name):
    check = SERVICES[name]["healthcheck"]
    assert check["test"][0] == "CMD-SHELL"
    assert {"interval", "timeout", "retries"} <= set(check)
    [volume] = SERVICES[name]["volumes"]
    assert volume.partition(":")[0] in yaml.safe_load(TEXT)["volumes"]


def test_tools_wait_until_their_server_is_healthy():
    for name in TOOLS:
        for needed in SERVICES[name]["depends_on"].values():
            assert needed == {"condition": "service_healthy"}


@pytest.mark.parametrize("name", ["POSTGRES_PASSWORD", "REDIS_PASSWORD", "TOOLS_PASSWORD"])
def test_no_password_has_a_default(name):
    """They are empty in the example, and Compose then names the one to set."""
    example = dotenv.dotenv_values(ROOT / ".env.example")
    assert example[name] == ""
    others = dict.fromkeys(re.findall(r"\$\{(\w+)", TEXT), "x") | {name: ""}
    with pytest.raises(LookupError, match=f"set {name} in .env"):
        resolve(SERVICES, others)
    assert set(re.findall(rf"\$\{{{name}[^}}]*}}", TEXT)) == {f"${{{name}:?set {name} in .env}}"}


def test_the_example_has_no_unused_variable():
    names = set(re.findall(r"\$\{(\w+)", TEXT)) | {"POSTGRES_HOST", "REDIS_HOST"}
    assert set(dotenv.dotenv_values(ROOT / ".env.example")) <= names


@pytest.fixture
def project(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory with a filled-in .env, and the servers that Compose would start from it."""
    with tempfile.TemporaryDirectory(prefix="compose") as name:
        directory, account = Path(name), account_for()
        os.chown(directory, account.uid, account.gid)
        text = (ROOT / ".env.example").read_text("utf-8")
        text = re.sub(r"(?m)(PASSWORD=)$", rf"\1'{PASSWORD}'", text)
        for variable in ("POSTGRES_PORT", "REDIS_PORT"):
            text = re.sub(rf"(?m)^{variable}=.*$", f"{variable}={free_port()}", text)
        (directory / ".env").write_text(text)
        environment = dotenv.dotenv_values(directory / ".env", interpolate=False)
        variables = resolve(SERVICES, environment)
        stops = [start_postgres(variables["postgres"], directory, account)]
        stops.append(start_redis(variables["redis"], directory, account))
        monkeypatch.chdir(directory)
        yield directory
        for stop in stops:
            stop.terminate()
            stop.wait()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def published_address(service: dict[str, Any]) -> tuple[str, str]:
    host, outside, _ = service["ports"][0].split(":")
    return host, outside


def run_as(account: Any, *command: str | Path) -> subprocess.Popen[bytes]:
    switch = {"user": account.uid, "group": account.gid, "extra_groups": []}
    return subprocess.Popen(
        command,
        cwd="/",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **(switch if os.geteuid() == 0 else {}),
    )


def start_postgres(
    service: dict[str, Any], directory: Path, account: Any
) -> subprocess.Popen[bytes]:
    """Start it as the image does: a superuser with a password, which owns a database."""
    variables, programs, data = service["environment"], find_postgres().bin, directory / "data"
    account.write(directory / "password", variables["POSTGRES_PASSWORD"] + "\n")
    options = ["--auth=scram-sha-256", f"--pwfile={directory / 'password'}", "--encoding=UTF8"]
    initialized = account.run(
        [programs / "initdb", "-D", data, "-U", variables["POSTGRES_USER"], *options]
    )
    assert initialized.returncode == 0, initialized.stderr
    host, port = published_address(service)
    assert service["command"][0] == "postgres"
    process = run_as(
        account,
        programs / "postgres",
        "-D",
        data,
        *service["command"][1:],
        "-c",
        "fsync=off",
        "-h",
        host,
        "-p",
        port,
        "-k",
        directory,
    )
    environment = os.environ | {"PGPASSWORD": variables["POSTGRES_PASSWORD"]}
    address = ["-h", host, "-p", port, "-U", variables["POSTGRES_USER"]]
    wait_until(lambda: not subprocess.run([programs / "pg_isready", "-q", *address]).returncode)
    subprocess.run(
        [programs / "createdb", *address, variables["POSTGRES_DB"]], env=environment, check=True
    )
    return process


def start_redis(service: dict[str, Any], directory: Path, account: Any) -> subprocess.Popen[bytes]:
    host, port = published_address(service)
    assert service["command"][0] == "redis-server"
    process = run_as(
        account,
        find_redis(),
        *service["command"][1:],
        "--dir",
        directory,
        "--bind",
        host,
        "--port",
        port,
    )
    secret = service["environment"]["REDISCLI_AUTH"]

    def answers() -> bool:
        with redis.Redis(host, int(port), password=secret) as client:
            try:
                return bool(client.ping())
            except redis.ConnectionError:
                return False

    wait_until(answers)
    return process


def test_one_env_file_for_compose_and_for_ngdata(project):
    migrated = subprocess.run(
        [sys.executable, "-c", "from ngdata.admin.cli import app; app(['migrate'])"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert migrated.returncode == 0, migrated.stderr
    assert migrated.stdout.endswith(f"is at revision {revision.HEAD}\n")
    with ngdata.connect() as ng:
        assert re.search(r"neurograph@127\.0\.0\.1:\d+/neurograph", repr(ng))
        ng.tokens.create({0: (1.0, 2.0, 3.0)})
        assert ng.tokens.count_in_region((0, 0, 0), (4, 4, 4)) == 1
        health = ng.health()
    assert health["ok"]
    assert health["redis"]["ok"]
    assert PASSWORD not in migrated.stdout + repr(health)
