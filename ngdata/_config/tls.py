"""TLS to PostgreSQL: what the settings may say, and what a failure of it means.

libpq and asyncpg read the same parameters and differ in what they pass over: a missing file, a key
that others can read, a root certificate with a mode that checks none, ``system``.  So all of that is
decided here, before either sees it, and both are told the same.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal, get_args

from ngdata.errors import ConfigError

__all__ = ["FIELDS", "Mode", "checked", "explanation"]

Mode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]

FIELDS: Final = {
    "sslmode": "ssl_mode",
    "sslcert": "ssl_cert",
    "sslkey": "ssl_key",
    "sslrootcert": "ssl_root_cert",
}
"""libpq's names, and the settings'."""

# Where systems keep the authorities that they trust; Python knows of one place at most.
_SYSTEM: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)

# What stands in an error of either driver, and what it means.  These texts are the client's own:
# OpenSSL's, libpq's and asyncpg's, which no server translates.
_FAILURES: Final = (
    (
        ("does not match host name", "Hostname mismatch", "IP address mismatch"),
        "the server's certificate is for another host name: use a name that stands in the "
        "certificate in the address, or have one made for this name",
    ),
    (
        ("certificate has expired", "certificate is not yet valid"),
        "the server's certificate is out of date, or this machine's clock is wrong",
    ),
    (
        ("certificate verify failed", "CERTIFICATE_VERIFY_FAILED"),
        "the server's certificate is not signed by the authority in ssl_root_cert: name the file "
        "of the authority that signed it",
    ),
    (
        ("server does not support SSL", "rejected SSL upgrade"),
        "the server does not speak TLS: turn it on there (ssl = on), or, where nobody can listen, "
        "set ssl_mode to disable",
    ),
    (
        ("alert unknown ca", "alert certificate required", "alert bad certificate"),
        "the server does not accept this client's certificate: ssl_cert must be signed by an "
        "authority that the server trusts",
    ),
)


def checked(parameters: Mapping[str, str]) -> dict[str, str]:
    """Make the TLS parameters such that both drivers do the same with them.

    A root certificate without a mode means ``verify-full``; with ``disable``, certificates do not
    matter.  ``system`` stands for the authorities that this machine trusts.

    Parameters
    ----------
    parameters : mapping
        Under libpq's names; others are left alone.

    Raises
    ------
    ConfigError
        For an unknown mode, a file that cannot be used, or a certificate that would be passed over.

    Examples
    --------
    >>> from ngdata._config.tls import checked
    >>> checked({"sslmode": "require"})
    {'sslmode': 'require'}
    """
    given = {name: parameters[name] for name in FIELDS if parameters.get(name)}
    mode = given.get("sslmode", "verify-full" if "sslrootcert" in given else None)
    if mode is None and not given:
        return {}
    if mode is not None and mode not in get_args(Mode):
        raise ConfigError(f"ssl_mode is one of {', '.join(get_args(Mode))}, not {mode!r}")
    if mode == "disable":
        return {"sslmode": mode}
    found = {} if mode is None else {"sslmode": mode}
    root = _root(mode, given.get("sslrootcert"))
    if root is not None:
        found["sslrootcert"] = root
    return found | _client(given, parameters.get("sslpassword", ""))


def _root(mode: str | None, given: str | None) -> str | None:
    if mode in (None, "allow", "prefer"):
        if given is not None:
            raise ConfigError(
                f"ssl_mode {mode} checks no certificate, so ssl_root_cert would be of no use; set "
                "ssl_mode to verify-full"
            )
        return None
    if given == "system":
        if mode != "verify-full":
            raise ConfigError(
                f"ssl_root_cert is `system`, and ssl_mode {mode} would take a certificate of "
                "anybody's from there; set ssl_mode to verify-full"
            )
        given = _system()
    if given is None:
        # Both drivers look there, each in its own idea of the home.
        place = Path(os.environ.get("PGSSLROOTCERT") or "~/.postgresql/root.crt").expanduser()
        if mode == "require" and not place.exists():
            return None
        if not place.exists():
            raise ConfigError(
                f"ssl_mode {mode} needs to know whom to trust: set ssl_root_cert to the file with "
                f"the authority's certificate, or to `system`; {place} is not there either"
            )
        given = str(place)
    path = _readable("ssl_root_cert", given)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError:
        raise ConfigError(f"ssl_root_cert: {path} holds no certificate in PEM form") from None
    return path


def _system() -> str:
    for place in (ssl.get_default_verify_paths().cafile, *_SYSTEM):
        if place and Path(place).is_file():
            return place
    raise ConfigError(
        "ssl_root_cert is `system`, and this machine has no list of authorities that it trusts; "
        "install its package ca-certificates, or name a file"
    )


def _client(given: Mapping[str, str], password: str) -> dict[str, str]:
    """Check the client's own certificate and key, if it has any."""
    names = {"sslcert", "sslkey"} & given.keys()
    if not names:
        return {}
    if len(names) == 1:
        one, other = names.pop(), {"sslcert": "ssl_key", "sslkey": "ssl_cert"}
        raise ConfigError(
            f"{FIELDS[one]} is of no use without {other[one]}; if one file holds both, name it in "
            "both"
        )
    certificate = _readable("ssl_cert", given["sslcert"])
    key = _readable("ssl_key", given["sslkey"])
    status = Path(key).stat()
    # libpq's own rule; root may let a group in.
    if status.st_mode & (0o077 if status.st_uid == os.geteuid() != 0 else 0o037):
        raise ConfigError(f"ssl_key: {key} can be read by others; run `chmod 600` on it")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, key, lambda: password)
    except (ssl.SSLError, ValueError):
        raise ConfigError(
            f"ssl_cert {certificate} and ssl_key {key} do not belong together, are not in PEM form, "
            "or the key is encrypted with another password than sslpassword"
        ) from None
    return {"sslcert": certificate, "sslkey": key}


def _readable(field: str, given: str) -> str:
    path = Path(given).expanduser().absolute()
    try:
        path.open("rb").close()
    except OSError as error:
        raise ConfigError(f"{field}: {path} cannot be read: {error.strerror}") from None
    return str(path)


def explanation(message: str) -> str | None:
    """Say what a driver's error means, if it is one of TLS; else give None.

    Examples
    --------
    >>> from ngdata._config.tls import explanation
    >>> explanation("SSL error: certificate verify failed")[:43]
    "the server's certificate is not signed by t"
    """
    for marks, meaning in _FAILURES:
        if any(mark in message for mark in marks):
            return meaning
    return None
