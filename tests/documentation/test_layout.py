"""The layers of the package: imports run down, never up, and never in a cycle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "ngdata"

# From the top down, as in docs/architecture.md.
FLOORS = [
    {"admin"},
    {"datasets", "binary", "files", "plot"},
    {"_client", "repositories"},
    {"_local"},
    {"_reading", "_store"},
    {"_connections", "_query", "ids"},
    {"regions"},
    {"_config", "_arguments"},
    {"errors"},
]
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def module_name(path: Path) -> str:
    """Return the dotted name that a file is imported by."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in PACKAGE.rglob("*.py")}


def imports(name: str) -> Iterator[str]:
    """Yield the modules of ngdata that a module imports, including imports for types only."""
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name} has a relative import"
            for alias in node.names:
                imported = f"{node.module}.{alias.name}"
                if imported in MODULES:
                    yield imported
                elif node.module in MODULES:
                    yield str(node.module)


def room(name: str) -> str:
    """Return the package or file at the top of ngdata/ that a module belongs to."""
    return name.split(".")[1]


ARROWS = {
    name: {imported for imported in imports(name) if imported != name}
    for name in MODULES
    if name != "ngdata"
}


def test_every_room_has_a_floor():
    assert {room(name) for name in ARROWS} == FLOOR.keys()


@pytest.mark.parametrize("name", sorted(ARROWS))
def test_imports_run_down(name):
    for imported in ARROWS[name]:
        assert imported != "ngdata", f"{name} imports the whole package"
        importer, target = room(name), room(imported)
        assert importer == target or FLOOR[importer] < FLOOR[target], f"{name} imports {imported}"


def test_imports_have_no_cycle():
    TopologicalSorter(ARROWS).prepare()
