"""A store for the notebooks: while the site is built, they run against embedded servers of its own."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.config import Config


def _digest(root: Path) -> str:
    """Return a digest of what the outputs of the notebooks depend on: code, sample, packages."""
    digest = hashlib.sha256()
    paths = [root / "requirements-dev.txt"]
    for folder in ("ngdata", "migrations"):
        paths += sorted(path for path in (root / folder).rglob("*.*") if path.suffix != ".pyc")
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _set_cache(app: Sphinx, config: Config) -> None:
    # Outputs are kept for as long as the code is the same: no page shows what older code returned.
    executed = Path(app.outdir).parent / "executed"
    current = executed / _digest(Path(app.srcdir))
    if executed.exists():
        for old in set(executed.iterdir()) - {current}:
            shutil.rmtree(old)
    config.nb_execution_cache_path = str(current)


def _start(app: Sphinx) -> None:
    if app.config.nb_execution_mode == "off":
        return
    # Sockets need short paths, and the servers' account must be able to enter.
    home = Path(tempfile.mkdtemp(prefix="ngdata site "))
    home.chmod(0o711)
    for name in list(os.environ):
        if name.startswith(("NGDATA_", "POSTGRES_", "REDIS_", "PG")):
            del os.environ[name]
    os.environ["NGDATA_HOME"] = str(home / "home")
    # Otherwise each figure brings a copy of plotly.js.
    os.environ["PLOTLY_RENDERER"] = "plotly_mimetype"


def _stop(app: Sphinx, exception: Exception | None) -> None:
    if app.config.nb_execution_mode == "off" or "NGDATA_HOME" not in os.environ:
        return
    from ngdata import _local

    _local.down()
    shutil.rmtree(Path(os.environ["NGDATA_HOME"]).parent, ignore_errors=True)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.connect("config-inited", _set_cache, priority=400)
    app.connect("builder-inited", _start)
    app.connect("build-finished", _stop)
    return {"parallel_read_safe": False}
