"""`docs/compatibility.md` names existing tests and all methods of the repositories."""

import ast
import inspect
import re
from pathlib import Path

from ngdata import repositories

HERE = Path(__file__).parent
PAGE = (HERE.parents[1] / "docs" / "compatibility.md").read_text()


def test_every_named_test_exists():
    named = set(re.findall(r"`(test_\w+\.py)::(\w+)`", PAGE))
    there = {
        (file.name, node.name)
        for file in HERE.glob("test_*.py")
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.FunctionDef)
    }
    assert len(named) > 25
    assert named <= there


def test_every_call_is_named():
    calls = {
        name
        for one in ("Token", "Graph", "Experience")
        for name, _ in inspect.getmembers(getattr(repositories, f"{one}Repository"), callable)
        if not name.startswith("_")
    } - {"model"}
    assert {name for name in calls if f"{name}(" not in PAGE and f"`{name}" not in PAGE} == set()
