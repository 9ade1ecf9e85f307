"""A home for servers of a test's own."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ngdata import _local


@pytest.fixture
def empty_home() -> Iterator[Path]:
    """A home that does not exist yet, in a directory that the servers' user can reach."""
    parent = Path(tempfile.mkdtemp(prefix="ngdata local "))
    parent.chmod(0o755)
    yield parent / "home"
    _local.down(parent / "home")
    shutil.rmtree(parent)
