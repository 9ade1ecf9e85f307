"""The notebooks run from top to bottom in a real kernel, and their output equals the committed one.

They are short, their pictures are there, and whatever extra brings JupyterLab brings all they import.
"""

import ast
import asyncio
import re
import tomllib
from importlib.metadata import packages_distributions
from itertools import pairwise
from pathlib import Path

import nbclient
import nbformat
import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
FIGURE = "application/vnd.plotly.v1+json"
# As IPython compiles a cell: `await` is allowed at the top.
FLAGS = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
WIDGET = "application/vnd.jupyter.widget-view+json"
MOST_CELLS, MOST_LINES, MOST_WORDS = 36, 16, 110

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


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


@each_notebook
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


def figures(cell: nbformat.NotebookNode) -> list[dict]:
    return [o.data[FIGURE] for o in cell.get("outputs", []) if FIGURE in o.get("data", {})]


def test_a_picture_is_among_the_first_five_cells_of_the_first_notebook():
    cells = nbformat.read(NOTEBOOKS[0], as_version=4).cells
    (figure,) = [figure for cell in cells[:5] for figure in figures(cell)]
    assert len(figure["data"]) >= 1
    assert figure["layout"]["title"]["text"] == "302 tokens"


@each_notebook
def test_pictures_are_drawn_by_ngdata_plot(path):
    cells = nbformat.read(path, as_version=4).cells
    assert sum(len(figures(cell)) for cell in cells) >= 1
    for cell in cells:
        if figures(cell):
            assert ".ng.plot" in cell.source
        assert "graph_objects" not in cell.source


@each_notebook
def test_nothing_of_widgets_is_saved(path):
    notebook = nbformat.read(path, as_version=4)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    for cell in notebook.cells:
        assert not cell.metadata
        assert not any(WIDGET in output.get("data", {}) for output in cell.get("outputs", []))


@each_notebook
def test_it_is_short(path):
    cells = nbformat.read(path, as_version=4).cells
    assert len(cells) <= MOST_CELLS
    for cell in cells:
        if cell.cell_type == "code":
            assert len(cell.source.splitlines()) <= MOST_LINES, cell.source
        else:
            assert len(cell.source.split()) <= MOST_WORDS, cell.source
    assert not any(a.cell_type == b.cell_type == "markdown" for a, b in pairwise(cells))
    assert path.stat().st_size < 400_000


EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def installed_by(extra: str) -> set[str]:
    """Return the distributions that ngdata with an extra asks for, by normal names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    waiting, distributions = [*project["dependencies"], *EXTRAS[extra]], {"ngdata"}
    while waiting:
        name, extras = re.match(r"([\w.-]+)(?:\[([\w,]+)\])?", waiting.pop()).groups()
        if name == "ngdata":
            waiting += [need for other in extras.split(",") for need in EXTRAS[other]]
        distributions.add(name.lower().replace("_", "-"))
    return distributions


def imported_by(path: Path) -> set[str]:
    """Return the distributions whose modules a notebook imports."""
    source = "\n".join(
        cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"
    )
    nodes = list(ast.walk(compile(source, path.name, "exec", FLAGS)))
    names = {a.name for node in nodes if isinstance(node, ast.Import) for a in node.names}
    names |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    distributions = packages_distributions()
    return {
        distributions.get(top, [top])[0].lower() for top in {n.partition(".")[0] for n in names}
    }


WITH_JUPYTERLAB = {extra for extra in EXTRAS if "jupyterlab" in installed_by(extra)}


def test_every_extra_with_jupyterlab_is_named():
    assert {"all", "dev", "notebook"} == WITH_JUPYTERLAB


@each_notebook
@pytest.mark.parametrize("extra", sorted(WITH_JUPYTERLAB))
def test_each_extra_with_jupyterlab_brings_what_it_imports(extra, path):
    imported = imported_by(path)
    assert "ngdata" in imported
    assert imported <= installed_by(extra)
    # `frame.ng.plot` imports it.
    assert "plotly" in installed_by(extra)


def test_pages_say_to_install_an_extra_that_brings_all_notebooks():
    for page in ("README.md", "docs/quickstart.md"):
        text = (ROOT / page).read_text()
        assert "jupyter lab --allow-root notebooks" in text
        named = re.findall(r"pip install .*'(?:\.|ngdata)\[(\w+)\]'", text)
        assert named, page
        assert set(named) <= WITH_JUPYTERLAB
