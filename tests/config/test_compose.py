"""docker-compose.yml: valid, closed to the outside, and at one with what ngdata reads of `.env`.

No Docker is needed: what the containers would be told is told to servers of this machine.
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


def resolved(value: Any, environment: dict[str, str | None]) -> Any:
    """Put in the variables as Compose does: `:?` and `:-` take an empty one for missing."""

    def one(found: re.Match[str]) -> str:
        name, kind, rest = found.groups()
        if name is None:
            return "$"
        if given := environment.get(name):
            return given
        if kind == "?":
            raise LookupError(rest)
        return rest or ""

    if isinstance(value, dict):
        return {key: resolved(item, environment) for key, item in value.items()}
    if isinstance(value, list):
        return [resolved(item, environment) for item in value]
    return _REFERENCE.sub(one, value) if isinstance(value, str) else value


def test_it_is_valid_by_the_specification():
    program = Path(sys.executable).with_name("check-jsonschema")
    subprocess.run([program, "--builtin-schema", "vendor.compose-spec", COMPOSE], check=True)


def test_the_services_and_which_start_by_themselves():
    assert {name for name, service in SERVICES.items() if "profiles" not in service} == SERVERS
    assert {name for name, s in SERVICES.items() if s.get("profiles") == ["tools"]} == TOOLS


@pytest.mark.parametrize("name", sorted(SERVERS | TOOLS))
def test_ports_are_of_this_machine_alone(name):
    for port in SERVICES[name]["ports"]:
        assert re.fullmatch(r"127\.0\.0\.1:\$\{\w+:-\d+\}:\d+", port), port
    assert "network_mode" not in SERVICES[name]


@pytest.mark.parametrize("name", sorted(SERVERS | TOOLS))
def test_images_are_pinned_and_name_no_registry(name):
    image, _, tag = SERVICES[name]["image"].partition(":")
    assert re.search(r"\d", tag), "a version, not latest"
    assert "." not in image.partition("/")[0], "the registry is the one that Docker is set up for"


@pytest.mark.parametrize("name", sorted(SERVERS))
def test_servers_are_watched_and_keep_their_data(name):
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
    """The example has them empty, and Compose then says which to set."""
    example = dotenv.dotenv_values(ROOT / ".env.example")
    assert example[name] == ""
    others = dict.fromkeys(re.findall(r"\$\{(\w+)", TEXT), "x") | {name: ""}
    with pytest.raises(LookupError, match=f"set {name} in .env"):
        resolved(SERVICES, others)
    assert set(re.findall(rf"\$\{{{name}[^}}]*}}", TEXT)) == {f"${{{name}:?set {name} in .env}}"}


def test_the_example_names_only_what_is_read():
    read = set(re.findall(r"\$\{(\w+)", TEXT)) | {"POSTGRES_HOST", "REDIS_HOST"}
    assert set(dotenv.dotenv_values(ROOT / ".env.example")) <= read


@pytest.fixture
def project(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory with a filled-in .env, and the servers that Compose would make of it."""
    with tempfile.TemporaryDirectory(prefix="compose") as name:
        place, account = Path(name), account_for()
        os.chown(place, account.uid, account.gid)
        text = (ROOT / ".env.example").read_text("utf-8")
        text = re.sub(r"(?m)(PASSWORD=)$", rf"\1'{PASSWORD}'", text)
        for variable in ("POSTGRES_PORT", "REDIS_PORT"):
            text = re.sub(rf"(?m)^{variable}=.*$", f"{variable}={free_port()}", text)
        (place / ".env").write_text(text)
        environment = dotenv.dotenv_values(place / ".env", interpolate=False)
        told = resolved(SERVICES, environment)
        stops = [started_postgres(told["postgres"], place, account)]
        stops.append(started_redis(told["redis"], place, account))
        monkeypatch.chdir(place)
        yield place
        for stop in stops:
            stop.terminate()
            stop.wait()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def published(service: dict[str, Any]) -> tuple[str, str]:
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


def started_postgres(service: dict[str, Any], place: Path, account: Any) -> subprocess.Popen[bytes]:
    """As the image does: a superuser with a password, and a database of which it is the owner."""
    told, programs, data = service["environment"], find_postgres().bin, place / "data"
    account.write(place / "password", told["POSTGRES_PASSWORD"] + "\n")
    options = ["--auth=scram-sha-256", f"--pwfile={place / 'password'}", "--encoding=UTF8"]
    made = account.run([programs / "initdb", "-D", data, "-U", told["POSTGRES_USER"], *options])
    assert made.returncode == 0, made.stderr
    host, port = published(service)
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
        place,
    )
    environment = os.environ | {"PGPASSWORD": told["POSTGRES_PASSWORD"]}
    way = ["-h", host, "-p", port, "-U", told["POSTGRES_USER"]]
    wait_until(lambda: not subprocess.run([programs / "pg_isready", "-q", *way]).returncode)
    subprocess.run([programs / "createdb", *way, told["POSTGRES_DB"]], env=environment, check=True)
    return process


def started_redis(service: dict[str, Any], place: Path, account: Any) -> subprocess.Popen[bytes]:
    host, port = published(service)
    assert service["command"][0] == "redis-server"
    process = run_as(
        account,
        find_redis(),
        *service["command"][1:],
        "--dir",
        place,
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
