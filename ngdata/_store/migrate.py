"""Migrate a database to a revision of the schema: Alembic, called from Python.

Every function blocks, so async code calls it on a thread.  The scripts are under ``migrations/``; an
installed ngdata includes its own copy.  Alembic is imported only to migrate.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ngdata._config import postgres_url
from ngdata._connections.driver_errors import translated
from ngdata._connections.revision import HEAD
from ngdata.errors import ConfigError, SchemaVersionError

if TYPE_CHECKING:
    from alembic.config import Config

__all__ = ["alembic_config", "downgrade", "head_revision", "upgrade"]

# Alembic keeps its state in module-level globals: one operation at a time.
_ALEMBIC: Final = threading.Lock()


def head_revision() -> str:
    """Return the newest revision of this ngdata.

    Examples
    --------
    >>> from ngdata._store.migrate import head_revision
    >>> head_revision()
    '0010'
    """
    return HEAD


def alembic_config(database_url: str) -> Config:
    """Return Alembic's configuration for a database.

    Parameters
    ----------
    database_url : str
        A URL that libpq accepts.

    Returns
    -------
    alembic.config.Config
        For `alembic.command`; it has no configuration file.

    Examples
    --------
    >>> from ngdata._store.migrate import alembic_config
    >>> config = alembic_config("postgresql://localhost/neurograph")
    >>> config.attributes["database_url"]
    'postgresql://localhost/neurograph'
    """
    from alembic.config import Config

    config = Config(attributes={"database_url": database_url})
    # Alembic expands percent signs in its options.
    config.set_main_option("script_location", str(_scripts()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def upgrade(database_url: str, revision: str = "head") -> None:
    """Upgrade a database to a revision; nothing happens if it is there already.

    Two concurrent upgrades of one database both succeed.

    Parameters
    ----------
    database_url : str
        A URL that libpq accepts.  The user must be allowed to create schemas, and the extension
        PostGIS unless it exists.
    revision : str
        The revision; by default the newest.

    Raises
    ------
    ConfigError
        If the URL is invalid, PostGIS is not available, or the user lacks a right.
    DatabaseUnavailable
        If no server answers.
    SchemaVersionError
        If the database has a revision that this ngdata does not know.

    Examples
    --------
    >>> from ngdata._store.migrate import upgrade
    >>> upgrade("postgresql://localhost/neurograph")  # doctest: +SKIP
    """
    from alembic import command

    with _exclusive(database_url):
        command.upgrade(alembic_config(database_url), revision)


def downgrade(database_url: str, revision: str = "base") -> None:
    """Downgrade a database to an older revision; ``base``, before the first, deletes all data.

    Parameters and errors are those of `upgrade`.

    Examples
    --------
    >>> from ngdata._store.migrate import downgrade
    >>> downgrade("postgresql://localhost/neurograph", "0001")  # doctest: +SKIP
    """
    from alembic import command

    with _exclusive(database_url):
        command.downgrade(alembic_config(database_url), revision)


def _scripts() -> Path:
    package = Path(__file__).resolve().parents[1]
    for directory in (package / "_migrations", package.parent / "migrations"):
        if (directory / "env.py").is_file():
            return directory
    raise ConfigError(
        f"the migrations are missing: neither {package / '_migrations'} nor "
        f"{package.parent / 'migrations'} exists; reinstall ngdata"
    )


@contextmanager
def _exclusive(database_url: str) -> Iterator[None]:
    """Run one operation at a time, and raise ngdata's errors."""
    from alembic.util import CommandError

    where = postgres_url.without_password(postgres_url.normalize(database_url))
    with _ALEMBIC, translated(where):
        try:
            yield
        except CommandError as error:
            raise SchemaVersionError(
                f"{where} cannot be migrated: {error}. This ngdata knows revisions up to {HEAD}; "
                "if a newer one created the database, upgrade ngdata"
            ) from None
