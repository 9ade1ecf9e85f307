"""TLS on a real server, with an authority created for the test; both drivers must agree."""

from __future__ import annotations

import asyncio
import os
import traceback
from pathlib import Path

import pytest

import ngdata
from ngdata._config import tls
from ngdata._config.settings import load_settings
from ngdata._connections.database import Database
from ngdata._connections.driver_errors import translated
from ngdata.errors import ConfigError, NGDataError

ENCRYPTED = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
CHECKED = ("verify-ca", "verify-full")


@pytest.fixture(autouse=True)
def _no_certificates_at_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def use_certificate(tcp_server):
    """Change the server's certificate, and restore its own after the test."""
    yield tcp_server.use
    tcp_server.use(tcp_server.authority.directory / "localhost.crt")


async def connect_by_each_driver(**arguments):
    """Connect by both drivers, and return for each whether it was encrypted, or the error."""
    database = Database(load_settings(**arguments))
    answers = {}
    try:
        try:
            async with database.transaction() as connection:
                answers["write"] = await connection.fetchval(ENCRYPTED)
        except NGDataError as error:
            answers["write"] = error
        try:
            with translated(database.where):
                async with database.arrow.connection() as reading:
                    answers["read"] = (await reading.read(ENCRYPTED)).table.to_pydict()["ssl"][0]
        except NGDataError as error:
            answers["read"] = error
    finally:
        await database.close()
    return answers


def encrypted(**arguments):
    """Return whether both drivers connected by TLS; they must agree."""
    answers = asyncio.run(connect_by_each_driver(**arguments))
    assert not any(isinstance(answer, Exception) for answer in answers.values()), answers
    assert answers["read"] == answers["write"]
    return answers["read"]


def refused(match, by_server=False, **arguments):
    """Check that both drivers fail with the same message, and show no password."""
    answers = asyncio.run(connect_by_each_driver(**arguments))
    # libpq has no SQLSTATE if the server refuses; on opening a client, the error is asyncpg's.
    for kind, answer in answers.items():
        expected = NGDataError if by_server and kind == "read" else ConfigError
        assert isinstance(answer, expected), answers
        text = "".join(traceback.format_exception(answer))
        assert match in text
        assert "sesame" not in text


def test_by_default_it_is_encrypted_and_no_certificate_is_checked(tcp_server):
    assert encrypted(database_url=tcp_server.url(host="127.0.0.1"))


@pytest.mark.parametrize(
    ("mode", "is_encrypted"),
    [("disable", False), ("allow", False), ("prefer", True), ("require", True)],
)
def test_modes_that_check_no_certificate(tcp_server, mode, is_encrypted):
    url = tcp_server.url(host="127.0.0.1")
    assert encrypted(database_url=url, ssl_mode=mode) == is_encrypted
    assert encrypted(database_url=f"{url}?sslmode={mode}") == is_encrypted


@pytest.mark.parametrize("mode", ["require", *CHECKED])
def test_the_right_authority(tcp_server, mode):
    root = tcp_server.authority.certificate
    assert encrypted(database_url=tcp_server.url(), ssl_mode=mode, ssl_root_cert=root)
    assert encrypted(database_url=tcp_server.url(sslmode=mode, sslrootcert=root))


@pytest.mark.parametrize("mode", ["require", *CHECKED])
def test_the_wrong_authority(tcp_server, mode):
    refused(
        "not signed by the authority in ssl_root_cert",
        database_url=tcp_server.url(),
        ssl_mode=mode,
        ssl_root_cert=tcp_server.impostor.certificate,
    )


def test_the_authorities_of_this_machine(tcp_server):
    refused("not signed by", database_url=tcp_server.url(), ssl_root_cert="system")


def test_another_host_name(tcp_server):
    url, root = tcp_server.url(host="127.0.0.1"), tcp_server.authority.certificate
    refused("for another host name", database_url=url, ssl_root_cert=root)
    assert encrypted(database_url=url, ssl_mode="verify-ca", ssl_root_cert=root)


@pytest.mark.parametrize(
    ("common_name", "alternative", "host", "fits"),
    [
        ("localhost", None, "localhost", True),
        ("elsewhere.example", None, "localhost", False),
        ("localhost", "DNS:elsewhere.example", "localhost", False),
        ("server", "IP:127.0.0.1", "127.0.0.1", True),
    ],
)
def test_names_in_a_certificate(tcp_server, use_certificate, common_name, alternative, host, fits):
    use_certificate(tcp_server.authority.sign("other", common_name, alternative))
    arguments = {
        "database_url": tcp_server.url(host=host),
        "ssl_root_cert": tcp_server.authority.certificate,
    }
    if fits:
        assert encrypted(**arguments)
    else:
        refused("for another host name", **arguments)


@pytest.mark.parametrize("mode", ["require", *CHECKED])
def test_a_server_without_tls(tcp_server, use_certificate, mode):
    use_certificate(None)
    root = None if mode == "require" else tcp_server.authority.certificate
    url = tcp_server.url()
    refused("the server does not support TLS", database_url=url, ssl_mode=mode, ssl_root_cert=root)
    assert not encrypted(database_url=url)


def test_a_server_that_requires_tls(tcp_server):
    tcp_server.run("CREATE DATABASE tls_only")
    try:
        url = tcp_server.url(database="tls_only")
        assert encrypted(database_url=url, ssl_mode="require")
        refused("pg_hba.conf", by_server=True, database_url=url, ssl_mode="disable")
    finally:
        tcp_server.run("DROP DATABASE tls_only WITH (FORCE)")


def test_a_client_certificate(tcp_server):
    root = tcp_server.authority.certificate
    url = tcp_server.url("bearer", None)
    own = tcp_server.authority.sign("bearer", "bearer")
    key = own.with_suffix(".key")
    assert encrypted(database_url=url, ssl_root_cert=root, ssl_cert=own, ssl_key=key)
    assert encrypted(database_url=url, ssl_mode="require", ssl_cert=own, ssl_key=key)

    refused("valid client certificate", by_server=True, database_url=url, ssl_root_cert=root)
    for authority, name, match in (
        (tcp_server.impostor, "bearer", "rejects this client's certificate"),
        (tcp_server.authority, "somebody", "authentication failed for user"),
    ):
        other = authority.sign(f"other {name}", name)
        refused(
            match,
            by_server=name != "bearer",
            database_url=url,
            ssl_root_cert=root,
            ssl_cert=other,
            ssl_key=other.with_suffix(".key"),
        )


def test_the_whole_client_by_tls(tcp_server, monkeypatch):
    monkeypatch.setenv("NGDATA_SSL_ROOT_CERT", str(tcp_server.authority.certificate))
    with ngdata.connect(tcp_server.url(), ssl_mode="verify-full") as ng:
        token = ng.tokens.create({0: (1, 2, 3)})
        assert list(ng.tokens.find_in_region((0, 0, 0), (9, 9, 9))["token_id"]) == [token]
        assert ng.tokens.delete([token]) == 1
    with pytest.raises(ConfigError, match="another host name"):
        ngdata.connect(tcp_server.url(host="127.0.0.1"))


def test_the_authority_at_home(tcp_server, tmp_path):
    """Both drivers read the certificates in ~/.postgresql."""
    place = tmp_path / ".postgresql" / "root.crt"
    place.parent.mkdir()
    url = tcp_server.url()
    for mode in CHECKED:
        with pytest.raises(ConfigError, match="needs an authority to trust"):
            load_settings(database_url=url, ssl_mode=mode)
    assert encrypted(database_url=url, ssl_mode="require")

    place.write_bytes(tcp_server.authority.certificate.read_bytes())
    assert encrypted(database_url=url, ssl_mode="verify-full")
    place.write_bytes(tcp_server.impostor.certificate.read_bytes())
    refused("not signed by", database_url=url, ssl_mode="require")


@pytest.fixture
def pair(tcp_server, tmp_path):
    """A certificate and its key, which a test may damage."""
    certificate = tcp_server.authority.sign("spoiled", "bearer")
    for suffix in (".crt", ".key"):
        path = tmp_path / f"own{suffix}"
        path.write_bytes(certificate.with_suffix(suffix).read_bytes())
        path.chmod(0o600)
    return {"sslcert": str(tmp_path / "own.crt"), "sslkey": str(tmp_path / "own.key")}


def test_files_that_cannot_be_used(pair, tcp_server, tmp_path):
    def problem(match, **parameters):
        with pytest.raises(ConfigError, match=match):
            tls.normalize(parameters)

    assert tls.normalize(pair) == pair
    problem("ssl_mode must be one of disable, .*, not 'full'", sslmode="full")
    problem("ssl_root_cert: .*/none cannot be read", sslrootcert=str(tmp_path / "none"))
    problem("ssl_root_cert: .* cannot be read: Is a directory", sslrootcert=str(tmp_path))
    problem("must hold a certificate in PEM form", sslrootcert=pair["sslkey"])
    problem("ssl_mode prefer checks no certificate", sslmode="prefer", sslrootcert=pair["sslcert"])
    problem("set ssl_mode to verify-full", sslmode="verify-ca", sslrootcert="system")
    problem("ssl_cert has no effect without ssl_key", sslcert=pair["sslcert"])
    problem("ssl_key has no effect without ssl_cert", sslkey=pair["sslkey"])
    other = tcp_server.authority.sign("stranger", "bearer").with_suffix(".key")
    problem("do not match, are not in PEM form", sslcert=pair["sslcert"], sslkey=str(other))
    os.chmod(pair["sslkey"], 0o644)
    problem("is readable by other users; run `chmod 600`", **pair)
    # With TLS switched off, the other settings are ignored.
    assert tls.normalize({"sslmode": "disable", "sslrootcert": "none"}) == {"sslmode": "disable"}


def test_a_key_with_a_password(pair):
    key = Path(pair["sslkey"])
    locked = key.with_name("locked.key")
    os.system(f"openssl ec -aes128 -passout pass:sesame -in {key} -out {locked} 2>/dev/null")
    locked.chmod(0o600)
    arguments = pair | {"sslkey": str(locked)}
    assert tls.normalize(arguments | {"sslpassword": "sesame"}) == arguments
    with pytest.raises(ConfigError, match="encrypted with another password"):
        tls.normalize(arguments)


def test_a_path_that_begins_with_a_tilde(pair, monkeypatch):
    monkeypatch.setenv("HOME", str(Path(pair["sslcert"]).parent))
    assert tls.normalize({"sslcert": "~/own.crt", "sslkey": "~/own.key"}) == pair
