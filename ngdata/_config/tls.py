"""TLS to PostgreSQL: which settings are valid, and what a failed handshake means.

libpq and asyncpg take the same parameters, but each silently ignores different mistakes: a missing
file, a key that others can read, a root certificate with a mode that checks none, ``system``.  All of
that is therefore decided here, and both drivers get the same result.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal, get_args

from ngdata.errors import ConfigError, shown

__all__ = ["FIELDS", "Mode", "explain_failure", "normalize", "readable"]

Mode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]

FIELDS: Final = {
    "sslmode": "ssl_mode",
    "sslcert": "ssl_cert",
    "sslkey": "ssl_key",
    "sslrootcert": "ssl_root_cert",
}
"""libpq's name of each parameter, and the setting's."""

# Where systems keep the authorities that they trust; Python knows at most one of these files.
_SYSTEM_FILES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)

# Parts of the drivers' errors, and their meaning.  OpenSSL, libpq and asyncpg write these texts on the
# client; they do not depend on the server's language.
_FAILURES: Final = (
    (
        ("does not match host name", "Hostname mismatch", "IP address mismatch"),
        "the server's certificate is for another host name: connect to a name that the certificate "
        "contains, or have a certificate issued for this name",
    ),
    (
        ("certificate has expired", "certificate is not yet valid"),
        "the server's certificate has expired or is not valid yet, or this machine's clock is wrong",
    ),
    (
        ("certificate verify failed", "CERTIFICATE_VERIFY_FAILED"),
        "the server's certificate is not signed by the authority in ssl_root_cert: set it to the "
        "file of the authority that signed the certificate",
    ),
    (
        ("server does not support SSL", "rejected SSL upgrade"),
        "the server does not support TLS: enable it there (ssl = on), or, on a trusted network, "
        "set ssl_mode to disable",
    ),
    (
        ("alert unknown ca", "alert certificate required", "alert bad certificate"),
        "the server rejects this client's certificate: ssl_cert must be signed by an "
        "authority that the server trusts",
    ),
)


def normalize(parameters: Mapping[str, str]) -> dict[str, str]:
    """Check TLS parameters, and return them in a form that means the same to both drivers.

    A root certificate without a mode implies ``verify-full``; ``disable`` ignores certificates.  The
    root certificate ``system`` is the list of authorities that this machine trusts.

    Parameters
    ----------
    parameters : mapping
        Under libpq's names; all others are ignored.

    Raises
    ------
    ConfigError
        The mode is unknown, a file cannot be used, or a certificate would be silently ignored.

    Examples
    --------
    >>> from ngdata._config.tls import normalize
    >>> normalize({"sslmode": "require"})
    {'sslmode': 'require'}
    """
    values = {name: parameters[name] for name in FIELDS if parameters.get(name)}
    mode = values.get("sslmode", "verify-full" if "sslrootcert" in values else None)
    if mode is None and not values:
        return {}
    if mode is not None and mode not in get_args(Mode):
        raise ConfigError(f"ssl_mode must be one of {', '.join(get_args(Mode))}, not {shown(mode)}")
    if mode == "disable":
        return {"sslmode": mode}
    normalized = {} if mode is None else {"sslmode": mode}
    root = _root_certificate(mode, values.get("sslrootcert"))
    if root is not None:
        normalized["sslrootcert"] = root
    return normalized | _client_certificate(values, parameters.get("sslpassword", ""))


def _root_certificate(mode: str | None, file: str | None) -> str | None:
    """Return the file of the authority to trust; None if the mode needs none."""
    if mode in (None, "allow", "prefer"):
        if file is not None:
            raise ConfigError(
                f"ssl_mode {mode} checks no certificate and would ignore ssl_root_cert; set "
                "ssl_mode to verify-full"
            )
        return None
    if file == "system":
        if mode != "verify-full":
            raise ConfigError(
                f"ssl_root_cert `system` with ssl_mode {mode} would accept the certificate of any "
                "server that a public authority has signed; set ssl_mode to verify-full"
            )
        file = _system_file()
    if file is None:
        # The default of both drivers, which differ in how they find the home directory.
        named = os.environ.get("PGSSLROOTCERT")
        default = Path(named or "~/.postgresql/root.crt").expanduser()
        if mode == "require" and not named and not default.exists():
            return None
        if not default.exists():
            raise ConfigError(
                f"ssl_mode {mode} needs an authority to trust, and {default} does not exist; set "
                "ssl_root_cert to the file with the authority's certificate, or to `system`"
            )
        file = str(default)
    path = readable("ssl_root_cert", file)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError:
        raise ConfigError(f"ssl_root_cert: {path} must hold a certificate in PEM form") from None
    return path


def _system_file() -> str:
    for file in (ssl.get_default_verify_paths().cafile, *_SYSTEM_FILES):
        if file and Path(file).is_file():
            return file
    raise ConfigError(
        "ssl_root_cert is `system`, but this machine has no list of trusted authorities; install "
        "its package ca-certificates, or set ssl_root_cert to a file"
    )


def _client_certificate(values: Mapping[str, str], password: str) -> dict[str, str]:
    """Check the client's own certificate and key, if it has any."""
    names = {"sslcert", "sslkey"} & values.keys()
    if not names:
        return {}
    if len(names) == 1:
        [name] = names
        present, missing = FIELDS[name], "ssl_key" if name == "sslcert" else "ssl_cert"
        raise ConfigError(
            f"{present} has no effect without {missing}; if one file holds both, set both to it"
        )
    certificate = readable("ssl_cert", values["sslcert"])
    key = readable("ssl_key", values["sslkey"])
    status = Path(key).stat()
    # libpq's own rule: only a file of root may be readable by a group.
    if status.st_mode & (0o077 if status.st_uid == os.geteuid() != 0 else 0o037):
        raise ConfigError(f"ssl_key: {key} is readable by other users; run `chmod 600` on it")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, key, lambda: password)
    except (ssl.SSLError, ValueError):
        raise ConfigError(
            f"ssl_cert {certificate} and ssl_key {key} do not match, are not in PEM form, or the "
            "key is encrypted with another password than sslpassword; correct the two files"
        ) from None
    return {"sslcert": certificate, "sslkey": key}


def readable(setting: str, file: str) -> str:
    """Return the absolute path of a file that can be read.

    Raises
    ------
    ConfigError
        It cannot; the error names the setting.

    Examples
    --------
    >>> from ngdata._config.tls import readable
    >>> readable("ssl_cert", "/dev/null")
    '/dev/null'
    """
    path = Path(file).expanduser().absolute()
    try:
        path.open("rb").close()
    except OSError as error:
        raise ConfigError(
            f"{setting}: {str(path)[:200]} cannot be read: {error.strerror}"
        ) from None
    return str(path)


def explain_failure(message: str) -> str | None:
    """Return the meaning of a driver's error if it is one of TLS, else None.

    Examples
    --------
    >>> from ngdata._config.tls import explain_failure
    >>> explain_failure("SSL error: certificate verify failed")[:43]
    "the server's certificate is not signed by t"
    """
    for fragments, meaning in _FAILURES:
        if any(fragment in message for fragment in fragments):
            return meaning
    return None
