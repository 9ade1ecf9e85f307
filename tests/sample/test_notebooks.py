"""The notebooks run from top to bottom in a real kernel, and their output equals the committed one."""

import asyncio
from pathlib import Path

import nbclient
import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


def outputs_of(notebook: nbformat.NotebookNode) -> list[tuple[str, str]]:
    """Return each code cell with its printed and returned text.

    Without stderr: on a slow machine, a line there says that servers start.
    """
    return [
        (
            cell.source,
            "".join(
                o.get("text") or o.get("data", {}).get("text/plain", "")
                for o in cell.outputs
                if o.get("name") != "stderr"
            ),
        )
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def run(notebook: nbformat.NotebookNode, directory: Path) -> nbformat.NotebookNode:
    """Execute a copy without outputs; a failing cell raises."""
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


def test_the_quickstart_exists():
    assert "01_quickstart.ipynb" in [path.name for path in NOTEBOOKS]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_twice_with_the_committed_output(database_url, path, tmp_path):
    # database_url empties the embedded database, to which connect() in the kernel connects.
    committed = nbformat.read(path, as_version=4)
    nbformat.validate(committed)
    # The second run finds the data of the first one in the store.
    for _ in range(2):
        executed = run(committed, tmp_path)
        for actual, expected in zip(outputs_of(executed), outputs_of(committed), strict=True):
            assert actual == expected
    outputs = [output for cell in committed.cells for output in cell.get("outputs", [])]
    frames = [o for o in outputs if "<table" in "".join(o.get("data", {}).get("text/html", ""))]
    assert len(frames) >= 5
    assert not any(o.output_type == "error" or o.get("name") == "stderr" for o in outputs)
