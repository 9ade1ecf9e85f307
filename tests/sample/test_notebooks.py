"""The notebooks run from top to bottom in a real kernel, and what they show is what is committed."""

import asyncio
from pathlib import Path

import nbclient
import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


def shown(notebook: nbformat.NotebookNode) -> list[tuple[str, str]]:
    """Give each code cell with all that it printed and returned, as text."""
    return [
        (
            cell.source,
            "".join(o.get("text") or o.get("data", {}).get("text/plain", "") for o in cell.outputs),
        )
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def run(notebook: nbformat.NotebookNode, directory: Path) -> nbformat.NotebookNode:
    """Execute a copy with none of its outputs; a cell that fails raises."""
    copy = nbformat.from_dict(notebook)
    for cell in copy.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    client = nbclient.NotebookClient(
        copy,
        timeout=120,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(directory)}},
    )
    asyncio.run(client.async_execute())
    return copy


def test_there_is_a_notebook():
    assert "01_quickstart.ipynb" in [path.name for path in NOTEBOOKS]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_twice_and_shows_what_is_committed(database_url, path, tmp_path):
    # database_url empties the embedded database, which is the one that the kernel's connect() joins.
    committed = nbformat.read(path, as_version=4)
    nbformat.validate(committed)
    # The second run finds in the store what the first has left there.
    for _ in range(2):
        executed = run(committed, tmp_path)
        for given, wanted in zip(shown(executed), shown(committed), strict=True):
            assert given == wanted
    outputs = [output for cell in committed.cells for output in cell.get("outputs", [])]
    frames = [o for o in outputs if "<table" in "".join(o.get("data", {}).get("text/html", ""))]
    assert len(frames) >= 5
    assert not any(o.output_type == "error" or o.get("name") == "stderr" for o in outputs)
