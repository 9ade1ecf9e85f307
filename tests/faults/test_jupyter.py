"""A real Jupyter kernel: both clients inside its running loop, interrupts, and shutdown."""

from __future__ import annotations

import time

import pytest
from jupyter_client.manager import start_new_kernel

import ngdata
from ngdata._client.sync.cache import Cache
from ngdata._client.sync.experience import Experience
from ngdata._client.sync.graph import Graph
from ngdata._client.sync.tokens import Tokens

PARTS = {"cache": Cache, "experience": Experience, "graph": Graph, "tokens": Tokens}

READY = """
import ngdata
ng = ngdata.connect(URL)
ang = await ngdata.connect_async(URL)
ng.tokens.bulk_create({"x": [0, 1], "y": [0, 1], "z": [0, 1]})
box = ((0, 0, 0), (1, 1, 1))
"""


class Notebook:
    """Runs cells in one kernel, one after the other."""

    def __init__(self) -> None:
        self.manager, self.client = start_new_kernel(kernel_name="python3")

    def send(self, code: str) -> str:
        return self.client.execute(code)

    def reply(self, message_id: str) -> dict:
        """Wait until a cell ends, and return its reply with the output."""
        shown, kinds = "", set()
        while True:
            message = self.client.get_iopub_msg(timeout=60)
            if message["parent_header"].get("msg_id") != message_id:
                continue
            content = message["content"]
            if message["msg_type"] == "status" and content["execution_state"] == "idle":
                break
            kinds.update(content.get("data", {}))
            shown += content.get("text", "") + content.get("data", {}).get("text/plain", "")
        while True:
            message = self.client.get_shell_msg(timeout=60)
            if message["parent_header"].get("msg_id") == message_id:
                return {**message["content"], "shown": shown, "kinds": kinds}

    def run(self, code: str) -> str:
        reply = self.reply(self.send(code))
        assert reply["status"] == "ok", reply
        return reply["shown"]

    def complete(self, code: str) -> set[str]:
        """Return the names that Tab offers at the end of the code."""
        message_id = self.client.complete(code, len(code))
        while True:
            message = self.client.get_shell_msg(timeout=60)
            if message["parent_header"].get("msg_id") == message_id:
                return {match.rpartition(".")[2] for match in message["content"]["matches"]}

    def close(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)
        # Otherwise, its sockets stay open.
        self.manager.cleanup_resources()
        self.manager.context.destroy()


@pytest.fixture
def notebook(observed):
    kernel = Notebook()
    try:
        kernel.run(f"URL = {observed.url!r}" + READY)
        yield kernel
    finally:
        kernel.close()


def test_both_clients_work_in_cells_without_a_patched_loop(notebook):
    assert notebook.run("len(ng.tokens.find_in_region(*box))") == "2"
    assert notebook.run("len(await ang.tokens.find_in_region(*box))") == "2"
    assert notebook.run("'nest_asyncio' in __import__('sys').modules") == "False"
    assert "token_id" in notebook.run("ng.tokens.find_in_region(*box)")


@pytest.mark.parametrize(
    "cell", ["ng.tokens.find_in_region(*box)", "await ang.tokens.find_in_region(*box)"]
)
def test_an_interrupt_stops_the_query_and_the_client_stays_usable(notebook, observed, cell):
    with observed.locked("tokens.spatial_index"):
        for _ in range(2):
            message_id = notebook.send(cell)
            observed.until_locked_out()
            notebook.manager.interrupt_kernel()
            reply = notebook.reply(message_id)
            assert (reply["status"], reply["ename"]) in {
                ("error", "KeyboardInterrupt"),
                ("error", "CancelledError"),
            }
            observed.until_idle()
    assert notebook.run(f"len({cell})") == "2"
    assert notebook.run("ng.pool_status()['read']['in_use']") == "0"


def test_tab_completion_and_help_show_the_real_methods(notebook):
    assert notebook.complete("ngdata.") == set(ngdata.__all__)
    methods = {name for name in dir(ngdata.Client) if not name.startswith("_")}
    assert notebook.complete("ng.") == methods | PARTS.keys()
    for name, part in PARTS.items():
        methods = {method for method in dir(part) if not method.startswith("_")}
        assert notebook.complete(f"ng.{name}.") == methods
    assert notebook.complete("ang.tokens.find_") == {
        "find_in_region",
        "find_nearest",
        "find_nearest_many",
        "find_within",
        "find_within_many",
    }
    shown = notebook.run("import inspect; print(inspect.signature(ng.tokens.find_nearest))")
    assert "point" in shown
    assert "max_distance" in shown


def test_an_idle_client_does_not_keep_the_kernel_alive(notebook, observed):
    notebook.client.shutdown()
    deadline = time.monotonic() + 30
    while notebook.manager.is_alive():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    observed.until_idle()


@pytest.mark.parametrize("cell", ["len({})", "len(await a{})"])
def test_progress_is_shown_in_the_cell_and_goes(notebook, cell):
    writing = cell.format(
        'ng.tokens.bulk_create({"x": [5.0], "y": [5.0], "z": [5.0]}, progress=True)'
    )
    message_id = notebook.send(writing)
    texts, kinds = [], set()
    while True:
        message = notebook.client.get_iopub_msg(timeout=60)
        if message["parent_header"].get("msg_id") != message_id:
            continue
        content = message["content"]
        if message["msg_type"] in ("display_data", "update_display_data"):
            texts.append(content["data"]["text/plain"])
            kinds |= set(content["data"])
        if message["msg_type"] == "status" and content["execution_state"] == "idle":
            break
    assert texts[0].startswith("writing tokens:   0%")
    # What is saved is the last of them; no widget, whose state would be saved too.
    assert texts[-1] == ""
    assert kinds == {"text/plain"}
    quiet = notebook.reply(notebook.send(writing.replace("=True", "=False")))
    assert quiet["shown"] == "1"
