"""Write the sync classes out of the async ones: the same signatures and docstrings, blocking.

Run it after any change to a public async method; a test fails while its output differs from what
is in the repository.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import Final, TypeAlias

Method: TypeAlias = ast.AsyncFunctionDef | ast.FunctionDef

ROOT: Final = Path(__file__).resolve().parent.parent
PACKAGE: Final = ROOT / "ngdata" / "_client"
CLASSES: Final = {
    "tokens": "AsyncTokens",
    "graph": "AsyncGraph",
    "experience": "AsyncExperience",
    "cache": "AsyncCache",
    "async_client": "AsyncClient",
}
# Behind a name, the parentheses are a call's.
_WRAPPED: Final = re.compile(r"(?<![\w\])])\(await ")
_HEAD: Final = '''"""{summary}

Written by scripts/generate_sync.py out of ngdata/_client/{module}.py; change that file, and run it again.
"""

from __future__ import annotations

'''
# A docstring's examples, in the words of a sync client.
_WORDS: Final = {
    "await ": "",
    "connect_async": "connect",
    " async for ": " for ",
    "ang.": "ng.",
}


def generate() -> dict[Path, str]:
    """Give the text of each file that belongs to ngdata/_client/sync."""
    return {
        PACKAGE / "sync" / f"{module.removeprefix('async_')}.py": _formatted(
            _sync_module(module, name)
        )
        for module, name in CLASSES.items()
    }


def _sync_module(module: str, class_name: str) -> str:
    tree = ast.parse((PACKAGE / f"{module}.py").read_text())
    found = next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == class_name)
    methods = [n for n in found.body if isinstance(n, Method) and _public(n)]
    sync_name = class_name.removeprefix("Async")
    is_client = module == "async_client"
    summary = (ast.get_docstring(tree) or "").splitlines()[0].replace("`client.", "`Client.")
    if is_client:
        summary = "The sync client: the async one's methods, blocking."
    body = [_method(method) for method in methods]
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom | ast.Import)]
    base = "Opened" if is_client else f"Twin[{class_name}]"
    text = f'''class {sync_name}({base}):
    """{_words(ast.get_docstring(found) or "", sync_name)}"""

''' + "\n\n".join(body)
    needed = [ast.unparse(node) for node in _needed(imports, text)]
    own = (
        ["from ngdata._client.sync.lifecycle import Opened"]
        if is_client
        else [
            f"from ngdata._client.{module} import {class_name}",
            "from ngdata._client.sync.base import Twin",
        ]
    )
    if "Iterator[" in text:
        own.append("from collections.abc import Iterator")
    head = _HEAD.format(summary=summary, module=module)
    return f'{head}{chr(10).join(needed + own)}\n\n__all__ = ["{sync_name}"]\n\n{text}\n'


def _public(method: Method) -> bool:
    return not method.name.startswith("_") and not method.decorator_list


def _words(text: str, sync_name: str = "") -> str:
    while found := _WRAPPED.search(text):
        text = text[: found.start()] + _unwrapped(text[found.start() :])
    for old, new in _WORDS.items():
        text = text.replace(old, new)
    # The client's own docstring says how it is opened, which differs.
    return text.partition("\n")[0].replace(", awaitable", "") if sync_name == "Client" else text


def _unwrapped(text: str) -> str:
    """Drop the parentheses that text begins with, which an await needed and a call does not."""
    depth = 0
    for place, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return text[1:place] + text[place + 1 :]
    raise ValueError(text)


def _method(method: Method) -> str:
    arguments = method.args
    passed = [a.arg for a in arguments.args[1:]]
    passed += [f"*{arguments.vararg.arg}"] if arguments.vararg else []
    passed += [f"{a.arg}={a.arg}" for a in arguments.kwonlyargs]
    passed += [f"**{arguments.kwarg.arg}"] if arguments.kwarg else []
    assert method.returns is not None
    returns = ast.unparse(method.returns)
    run = "run"
    if returns.startswith("AsyncGenerator["):
        run, returns = "iterate", f"Iterator[{returns.split('[', 1)[1].rpartition(',')[0]}]"
    indented = "\n".join(
        f"        {line}".rstrip() for line in _words(ast.get_docstring(method) or "").splitlines()
    ).strip()
    return f'''    def {method.name}({ast.unparse(arguments)}) -> {returns}:
        """{indented}
        """
        return self._loop.{run}(self._twin.{method.name}({", ".join(passed)}))
'''


def _needed(imports: list[ast.ImportFrom | ast.Import], text: str) -> list[ast.stmt]:
    """Keep of the imports what the signatures name."""
    code = ast.parse(text)
    used = {n.id for n in ast.walk(code) if isinstance(n, ast.Name)}
    kept: list[ast.stmt] = []
    for node in imports:
        names = [a for a in node.names if (a.asname or a.name).split(".")[0] in used]
        if isinstance(node, ast.ImportFrom) and node.module != "__future__" and names:
            kept.append(ast.ImportFrom(node.module, names, node.level))
        elif isinstance(node, ast.Import) and names:
            kept.append(ast.Import(names))
    return kept


def _formatted(text: str) -> str:
    for arguments in (["check", "--fix", "--quiet", "--select", "I"], ["format", "--quiet"]):
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "ruff",
                *arguments,
                "--stdin-filename",
                "ngdata/_client/sync/x.py",
                "-",
            ],
            input=text,
            capture_output=True,
            text=True,
            cwd=ROOT,
        )
        if done.returncode:
            raise SystemExit(done.stderr)
        text = done.stdout
    return text


if __name__ == "__main__":
    for path, content in generate().items():
        path.write_text(content)
