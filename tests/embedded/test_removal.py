"""`ngdata down --delete-data`: it deletes what ngdata created, after asking, and nothing else."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ngdata import _local
from ngdata._local import state
from ngdata.errors import ConfigError

PROGRAM = Path(sys.executable).with_name("ngdata")


def down(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `ngdata down` without a terminal."""
    return subprocess.run(
        [PROGRAM, "down", *arguments],
        env=os.environ | {"NGDATA_HOME": str(home)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def answered(home: Path, answer: str) -> tuple[int, str]:
    """Run `ngdata down --delete-data` in a terminal, and answer its question."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [PROGRAM, "down", "--delete-data"],
        env=os.environ | {"NGDATA_HOME": str(home)},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    text = b""
    try:
        while not text.endswith(b"delete them: "):
            text += os.read(ours, 1000)
        os.write(ours, f"{answer}\n".encode())
        while part := os.read(ours, 1000):
            text += part
    except OSError:
        pass  # Linux ends the reading of a terminal that nobody has by an error.
    finally:
        os.close(ours)
    return process.wait(120), text.decode()


@pytest.fixture
def home(empty_home) -> Path:
    """A home whose servers run."""
    _local.up(empty_home, durable=False)
    return empty_home


def test_a_script_says_yes_and_all_of_it_is_gone(home):
    recorded = state.load(home)
    used = subprocess.run(
        ["du", "-s", "--block-size=1", recorded.servers], capture_output=True, text=True, check=True
    )
    result = down(home, "--delete-data", "--yes")
    assert (result.returncode, result.stderr) == (0, "")
    (size,) = re.findall(r"stopped, and deleted .*/servers: ([\d.]+) MB are free\n", result.stdout)
    assert float(size) == pytest.approx(int(used.stdout.split()[0]) / 1e6, rel=0.1)
    assert not home.exists()
    assert not Path(recorded.sockets).exists()
    assert not _local.status(home).running
    again = down(home, "--delete-data", "--yes")
    assert (again.returncode, again.stdout) == (0, f"there are no data to delete in {home}\n")


def test_without_a_terminal_and_without_yes_nothing_happens(home):
    result = down(home, "--delete-data")
    assert result.returncode == 1
    assert (
        "cannot ask without a terminal; nothing was deleted. In a script, add --yes"
        in result.stderr
    )
    assert str(home) in result.stderr
    assert _local.status(home).running


def test_yes_alone_is_refused(home):
    result = down(home, "--yes")
    assert result.returncode == 1
    assert "--delete-data" in result.stderr
    assert _local.status(home).running


@pytest.mark.parametrize("answer", ["", "y", "no", "yes please"])
def test_any_other_answer_leaves_all_as_it_is(home, answer):
    code, text = answered(home, answer)
    assert code == 1
    assert re.search(r"deletes every token.*\n[\d.]+ MB, for good", text.replace("\r", ""))
    assert "nothing was deleted, and nothing was stopped" in text
    assert _local.status(home).running


def test_yes_at_a_terminal(home):
    code, text = answered(home, "yes")
    assert code == 0, text
    assert "MB are free" in text
    assert not home.exists()


def test_down_alone_keeps_the_data(home):
    assert down(home).stdout == "stopped\n"
    assert _local.removable(home).size > 1e6


def test_servers_that_do_not_run_and_a_new_store_afterwards(home):
    _local.down(home)
    assert _local.delete_data(home).size > 1e6
    assert _local.up(home, durable=False)
    assert _local.status(home).running


def test_other_files_in_the_home_stay(home):
    (home / "notes.txt").write_text("mine")
    _local.delete_data(home)
    assert [path.name for path in home.iterdir()] == ["notes.txt"]


def test_programs_that_ngdata_installed_stay_and_are_named(home):
    (home / "programs").mkdir()
    result = down(home, "--delete-data", "--yes")
    assert f"programs stay in {home / 'programs'}; remove that directory" in result.stdout
    assert [path.name for path in home.iterdir()] == ["programs"]


def test_a_directory_of_somebody_else_is_never_deleted(home, tmp_path):
    _local.down(home)
    precious = tmp_path / "precious"
    precious.mkdir(mode=0o700)
    (precious / "thesis").write_text("")
    fields = json.loads((home / "state.json").read_text())
    for directory in (str(precious), "/", str(home), str(home / "servers" / "..")):
        (home / "state.json").write_text(json.dumps(fields | {"servers": directory}))
        for refused in (_local.removable, _local.delete_data):
            with pytest.raises(ConfigError, match=r"creates none; nothing was deleted"):
                refused(home)
    (home / "state.json").write_text(json.dumps(fields))
    servers = home / "servers"
    servers.rename(home / "moved")
    servers.symlink_to(precious)
    with pytest.raises(ConfigError, match=r"mode 0700 .* nothing was deleted"):
        _local.delete_data(home)
    servers.unlink()
    (home / "moved").rename(servers)
    (servers / "thesis").write_text("")
    with pytest.raises(ConfigError, match=r"did not create: thesis; .*Nothing was deleted"):
        _local.delete_data(home)
    (servers / "thesis").unlink()
    assert (precious / "thesis").exists()
    assert _local.up(home, durable=False)


def test_servers_of_another_machine_are_left(home):
    (home / "host").write_text("elsewhere.example\n")
    with pytest.raises(ConfigError, match=r"'elsewhere\.example'"):
        _local.delete_data(home)
    (home / "host").unlink()
    assert _local.status(home).directory.exists()
    _local.up(home, durable=False)


def test_who_waits_for_the_lock_meanwhile_is_not_disturbed(home):
    _local.down(home)
    errors = []

    def call(function, **options):
        try:
            function(home, **options)
        except BaseException as error:
            errors.append(error)

    calls = [(_local.delete_data, {}), (_local.up, {"durable": False}), (_local.delete_data, {})]
    threads = [threading.Thread(target=call, args=(f,), kwargs=options) for f, options in calls]
    with state.locked(home):
        for thread in threads:
            thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    # Whichever was last, the home is usable.
    assert _local.up(home, durable=False)
    assert _local.status(home).running


def test_a_home_without_data(tmp_path):
    assert _local.removable(tmp_path) is None
    assert _local.delete_data(tmp_path) is None
    assert tmp_path.exists()
