"""`ngdata install-servers`: the distribution's packages, unpacked for one user, serve the embedded default."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

import psutil
import pytest

import ngdata
from ngdata import _local
from ngdata._local import binaries, packages
from ngdata.errors import ConfigError

# A slow line downloads for minutes.
pytestmark = pytest.mark.timeout(1800)

BOX = ((0, 0, 0), (5, 5, 5))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home with the servers, from this machine's package sources."""
    if shutil.which("apt-get") is None:
        pytest.skip("this is neither Debian nor Ubuntu")
    # The servers' account goes through it; a path with a space is a path, too.
    home = Path(os.environ["NGDATA_HOME"]).parent / "own servers"
    said: list[str] = []
    try:
        installed = packages.install(said.append, home)
    except ConfigError as error:
        if "do not answer" in str(error) or "cannot be downloaded" in str(error):
            pytest.skip(f"the package sources do not answer: {error}")
        raise
    assert installed.directory == home / "programs"
    assert [text.split()[0] for text in said] == [
        "reading",
        "downloading",
        "unpacking",
        "checking",
    ]
    yield home
    _local.down(home)
    shutil.rmtree(home)


@pytest.fixture
def only_own(home, monkeypatch):
    """A machine that has no other servers."""
    # The servers' account must reach it, as it does the home.
    tools = home.parent / "tools"
    tools.mkdir(mode=0o755)
    for name in ("sh", "env", "dirname", "rm", "tail", "cat", "mv"):
        (tools / name).symlink_to(shutil.which(name))
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.setenv("NGDATA_HOME", str(home))
    monkeypatch.setattr(binaries, "PLACES", [])
    monkeypatch.setattr(binaries, "REDIS_PLACES", [])
    yield home
    shutil.rmtree(tools)


def test_the_embedded_servers_run_from_the_unpacked_packages(only_own):
    programs = only_own / "programs"
    assert not packages.is_missing()
    assert binaries.find_postgres().bin == programs / "scripts"
    assert binaries.find_psql() == programs / "scripts/psql"
    try:
        with ngdata.connect() as ng:
            ng.tokens.create({0: (1, 2, 3)})
            assert len(ng.tokens.find_in_region(*BOX)) == 1
            assert ng.health()["ok"]
        status = _local.status()
        assert status.running
        assert status.postgis is not None
        running = set()
        for process in psutil.process_iter():
            # A server of another test may end meanwhile.
            with contextlib.suppress(psutil.Error):
                if process.name() in ("postgres", "redis-server") and str(only_own) in str(
                    process.environ().get("PROJ_DATA", "")
                ):
                    running.add(Path(process.exe()).is_relative_to(programs))
        assert running == {True}
    finally:
        assert _local.down()


def test_the_directory_holds_programs_only_and_can_be_moved(home):
    assert not list(home.glob("programs.new-*"))
    assert not (home / "programs/apt").exists()
    moved = home.parent / "moved programs"
    (home / "programs").rename(moved)
    try:
        ran = subprocess.run(
            [moved / "scripts/postgres", "--version"], capture_output=True, text=True, check=True
        )
        assert "(PostgreSQL)" in ran.stdout
        (moved / "scripts/redis-server").stat()
    finally:
        moved.rename(home / "programs")


def test_without_apt_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(packages, "_PATH", "")
    with pytest.raises(
        ConfigError, match=r"Debian and Ubuntu.* has no apt-get.*; install the servers"
    ):
        packages.install(home=tmp_path / "home")
    assert not (tmp_path / "home").exists()


def test_sources_that_do_not_answer_leave_nothing(monkeypatch, tmp_path):
    if shutil.which("apt-get") is None:
        pytest.skip("this is neither Debian nor Ubuntu")
    (tmp_path / "sources.list").write_text("deb http://127.0.0.1:9/debian none main\n")
    (tmp_path / "parts").mkdir()
    (tmp_path / "apt.conf").write_text(
        f'Dir::Etc::sourcelist "{tmp_path}/sources.list"; Dir::Etc::sourceparts "{tmp_path}/parts";\n'
    )
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
    home = tmp_path / "home"
    with pytest.raises(
        ConfigError, match=r"postgresql-\w+-postgis-3.* do not answer.*Failed to fetch"
    ):
        packages.install(home=home)
    assert [entry.name for entry in home.iterdir()] == ["lock"]


def test_a_home_whose_name_separates_paths_is_refused(tmp_path):
    if shutil.which("apt-get") is None:
        pytest.skip("this is neither Debian nor Ubuntu")
    with pytest.raises(ConfigError, match="separates paths; set NGDATA_HOME"):
        packages.install(home=tmp_path / "a:b")
