"""A server that others may reach: on TCP, by TLS, with passwords, and an authority made for it."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from ngdata._local.account import Account, account_for
from ngdata._local.binaries import find_postgres
from ngdata._store import migrate
from tests.conftest import execute

PASSWORD = "open sesame/ä:@"

HBA = """
hostssl all  bearer 127.0.0.1/32 cert
hostssl tls_only all 127.0.0.1/32 scram-sha-256
host    tls_only all 127.0.0.1/32 reject
host    all  all    127.0.0.1/32 scram-sha-256
"""

SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
fsync = off
full_page_writes = off
shared_buffers = 32MB
password_encryption = 'scram-sha-256'
ssl = on
ssl_cert_file = '{certificates}/server.crt'
ssl_key_file = '{certificates}/server.key'
ssl_ca_file = '{certificates}/authority.crt'
"""


def openssl(*words: str | Path, where: Path) -> None:
    done = subprocess.run(["openssl", *words], cwd=where, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


class Authority:
    """A throwaway certificate authority; what it signs lies in its directory."""

    def __init__(self, directory: Path, name: str) -> None:
        self.directory = directory
        self.certificate = directory / f"{name}.crt"
        self._key = directory / f"{name}.key"
        openssl(
            *("req", "-x509", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", f"/CN=ngdata test {name}"),
            *("-keyout", self._key, "-out", self.certificate),
            where=directory,
        )

    def sign(self, name: str, common_name: str, alternative: str | None = None) -> Path:
        """Make `name`.crt and `name`.key, and give the certificate's path."""
        request, extensions = self.directory / f"{name}.csr", self.directory / f"{name}.ext"
        extensions.write_text(f"subjectAltName = {alternative}\n" if alternative else "")
        openssl(
            *("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-subj", f"/CN={common_name}", "-keyout", f"{name}.key", "-out", request),
            where=self.directory,
        )
        openssl(
            *("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self._key),
            *("-CAcreateserial", "-days", "2", "-extfile", extensions, "-out", f"{name}.crt"),
            where=self.directory,
        )
        return self.directory / f"{name}.crt"


@dataclass(frozen=True)
class Server:
    """PostgreSQL on TCP, with a superuser `postgres` and a migrated database `store`."""

    account: Account
    directory: Path
    certificates: Path
    port: int
    authority: Authority
    impostor: Authority

    def url(
        self,
        user: str = "postgres",
        password: str | None = PASSWORD,
        *,
        host: str = "localhost",
        database: str = "store",
        **parameters: Any,
    ) -> str:
        secret = "" if password is None else f":{quote(password, safe='')}"
        query = f"?{urlencode(parameters, quote_via=quote)}" if parameters else ""
        return f"postgresql://{user}{secret}@{host}:{self.port}/{database}{query}"

    def run(self, *statements: str, database: str = "store") -> list[Any]:
        """Run statements as superuser, each by itself, and give the last one's rows."""
        return execute(self.url(database=database), *statements)

    def use(self, certificate: Path | None) -> None:
        """Go on with another certificate, which has its key beside it, or without TLS."""
        if certificate is not None:
            for suffix in (".crt", ".key"):
                text = certificate.with_suffix(suffix).read_text("ascii")
                self.account.write(self.certificates / f"server{suffix}", text)
        on = "off" if certificate is None else "on"
        self.run(f"ALTER SYSTEM SET ssl = {on}")
        # Each signal makes the postmaster read anew; a new connection is served after that.
        assert self.control("reload").returncode == 0

    def control(self, what: str, *options: str) -> subprocess.CompletedProcess[str]:
        program = find_postgres().bin / "pg_ctl"
        return self.account.run([program, what, "-D", self.directory / "data", *options])


@pytest.fixture(scope="session")
def tcp_server() -> Iterator[Server]:
    """The server, by TLS, as `localhost` and by no other name."""
    account = account_for()
    directory = Path(tempfile.mkdtemp(prefix="ngdata-tcp-", dir="/tmp"))
    made = Path(tempfile.mkdtemp(prefix="ngdata-certificates-"))
    authority, impostor = Authority(made, "authority"), Authority(made, "impostor")
    authority.sign("localhost", "server", "DNS:localhost")
    _give(directory, account)
    certificates = directory / "certificates"
    assert account.run(["mkdir", "-m", "700", certificates]).returncode == 0
    for source, name in (("localhost.crt", "server.crt"), ("localhost.key", "server.key")):
        account.write(certificates / name, (made / source).read_text("ascii"))
    account.write(certificates / "authority.crt", authority.certificate.read_text("ascii"))
    account.write(directory / "password", PASSWORD)
    data = directory / "data"
    done = account.run(
        [
            *(find_postgres().bin / "initdb", "-D", data, "-U", "postgres", "--no-sync"),
            *("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"),
            f"--pwfile={directory / 'password'}",
        ]
    )
    assert done.returncode == 0, done.stderr
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    account.write(
        data / "postgresql.conf", f"port = {port}\n" + SETTINGS.format(certificates=certificates)
    )
    account.write(data / "pg_hba.conf", HBA)
    server = Server(account, directory, certificates, port, authority, impostor)
    done = server.control("start", "-w", "-l", str(directory / "log"))
    assert done.returncode == 0, account.tail(directory / "log")
    try:
        server.run("CREATE DATABASE store", "CREATE ROLE bearer LOGIN", database="postgres")
        migrate.upgrade(server.url())
        yield server
    finally:
        server.control("stop", "-m", "immediate")
        account.remove(directory)
        shutil.rmtree(directory, ignore_errors=True)
        shutil.rmtree(made)


def _give(path: Path, account: Account) -> None:
    shutil.chown(path, account.uid, account.gid)


__all__ = ["PASSWORD", "Authority", "Server", "tcp_server"]
