"""What is written about ngdata is true: examples run, names exist, twins and pages are complete."""

import ast
import asyncio
import doctest
import importlib
import importlib.util
import inspect
import pkgutil
import re
import uuid
from pathlib import Path

import asyncpg
import numpy as np
import pandas as pd
import pytest
import typer.main

import ngdata
from ngdata import datasets, errors
from ngdata._client.cache import AsyncCache
from ngdata._client.experience import AsyncExperience
from ngdata._client.graph import AsyncGraph
from ngdata._client.sync.cache import Cache
from ngdata._client.sync.experience import Experience
from ngdata._client.sync.graph import Graph
from ngdata._client.sync.tokens import Tokens
from ngdata._client.tokens import AsyncTokens
from ngdata._store import migrate
from ngdata.admin.cli import app

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "ngdata"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]

# Their examples await at the top level; the sync classes carry the same ones.
AWAITING = {
    "ngdata._client.tokens",
    "ngdata._client.graph",
    "ngdata._client.experience",
    "ngdata._client.async_client",
    "ngdata._client.cache",
}

TWINS = [
    (ngdata.AsyncClient, ngdata.Client),
    (AsyncTokens, Tokens),
    (AsyncGraph, Graph),
    (AsyncExperience, Experience),
    (AsyncCache, Cache),
]
# A sync client opens itself when it is made.
ASYNC_ONLY = {"AsyncClient.open"}


def public(cls: type) -> dict[str, object]:
    found = {name for name in dir(cls) if not name.startswith("_")}
    return {name: getattr(cls, name) for name in sorted(found)}


def spelled(cls: type, name: str) -> str:
    return f"{cls.__name__}.{name}"


METHODS = [
    pytest.param(method, id=spelled(cls, name))
    for pair in TWINS
    for cls in pair
    for name, method in public(cls).items()
]
FUNCTIONS = [
    pytest.param(getattr(module, name), id=name)
    for module in (ngdata, datasets)
    for name in module.__all__
    if inspect.isfunction(getattr(module, name))
]


def modules_with_examples() -> list[str]:
    names = [found.name for found in pkgutil.walk_packages(ngdata.__path__, "ngdata.")]
    return [
        name
        for name in ("ngdata", *names)
        if name not in AWAITING and examples_of(importlib.import_module(name), {})
    ]


def examples_of(module: object, globs: dict[str, object]) -> list[doctest.DocTest]:
    found = doctest.DocTestFinder(exclude_empty=True).find(module, globs=globs)
    return [test for test in found if test.examples]


def run_example(test: doctest.DocTest) -> None:
    said: list[str] = []
    with pd.option_context("display.width", 100, "display.max_columns", None):
        doctest.DocTestRunner().run(test, out=said.append)
    assert not said, "".join(said)


@pytest.fixture(scope="module")
def store(server):
    """A store of the examples' own: they load the sample, and write to it."""
    name = f"examples_{uuid.uuid4().hex}"
    url = server.database_url.replace("/ngdata?", f"/{name}?")
    execute(server.database_url, f"CREATE DATABASE {name}")
    migrate.upgrade(url)
    with pytest.MonkeyPatch.context() as environment, ngdata.connect(url) as client:
        environment.setenv("NGDATA_DATABASE_URL", url)
        datasets.load_celegans(client)
        yield client
    execute(server.database_url, f"DROP DATABASE {name} WITH (FORCE)")


def execute(url: str, statements: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(url)
        await connection.execute(statements)
        await connection.close()

    asyncio.run(run())


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples_of_docstrings(store, name):
    globs = {"ng": store, "ngdata": ngdata, "pd": pd, "np": np}
    for test in examples_of(importlib.import_module(name), globs):
        run_example(test)


def fenced(page: Path, language: str) -> str:
    return "\n".join(re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.M | re.S))


@pytest.mark.parametrize("page", [p for p in PAGES if ">>>" in p.read_text()], ids=lambda p: p.name)
def test_examples_of_pages(migrated_database, monkeypatch, page):
    # A new one, as a reader's is: what other tests' rows left in the statistics changes plans.
    monkeypatch.setenv("NGDATA_DATABASE_URL", migrated_database)
    run_example(doctest.DocTestParser().get_doctest(fenced(page, "python"), {}, page.name, None, 0))


def test_all_python_on_pages_is_run():
    for page in PAGES:
        blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.M | re.S)
        assert all(block.startswith(">>> ") for block in blocks), page


def test_the_rights_that_the_readme_grants_are_enough(store):
    url = store._twin._settings.database_url.get_secret_value()
    role = f"reader_{uuid.uuid4().hex}"
    reading, writing = re.findall(
        r"^```sql\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S
    )
    as_role = f"{url}&options=-c%20role%3D{role}"
    point = {"x": [5.0], "y": [5.0], "z": [5.0]}
    execute(url, f"CREATE ROLE {role}")
    execute(url, reading.replace("TO ada", f"TO {role}"))
    with ngdata.connect(as_role) as ng:
        near = ng.tokens.find_nearest((0, 0, 0), k=2)
        assert len(ng.tokens.get(near.token_id)) == 2
        assert len(ng.graph.get_degree(near.token_id)) == 2
        assert "event_id" in ng.experience.get_events(limit=1)
        with pytest.raises(errors.NGDataError, match="permission denied"):
            ng.tokens.bulk_create(point)
    execute(url, writing.replace("TO ada", f"TO {role}"))
    with ngdata.connect(as_role) as ng:
        made = ng.tokens.bulk_create(point)
        ng.tokens.update(made, weight=2.0)
        ng.graph.create_connection(made[0], made[0])
        ng.experience.create_event("seen", token_id=made[0], trajectory_id=uuid.uuid4())
        assert ng.tokens.find_in_region((5, 5, 5), (5, 5, 5)).weight.tolist() == [2.0]
        assert ng.tokens.delete(made) == 1
    execute(url, f"DROP OWNED BY {role}; DROP ROLE {role}")


@pytest.mark.parametrize("function", METHODS + FUNCTIONS)
def test_docstrings_are_complete(function):
    text = inspect.getdoc(function)
    assert text, "no docstring"
    sections = dict(re.findall(r"^(\w+)\n-+\n(.*?)(?=^\w+\n-+\n|\Z)", text, re.M | re.S))
    assert ">>> " in sections["Examples"]
    signature = inspect.signature(function)
    named = {
        n.strip("* ")
        for line in re.findall(r"^(\S.*?)(?: :|$)", sections.get("Parameters", ""), re.M)
        for n in line.split(",")
    }
    parameters = set(signature.parameters) - {"self"}
    if function is not ngdata.connect_async:  # it refers to connect, which has the same ones
        assert named == parameters
    if signature.return_annotation not in (None, "None"):
        assert {"Returns", "Yields"} & set(sections) or "Self" in str(signature.return_annotation)


def test_sync_classes_are_as_generated():
    path = ROOT / "scripts" / "generate_sync.py"
    spec = importlib.util.spec_from_file_location("generate_sync", path)
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    written = generator.generate()
    assert {p.name for p in written} == {
        *("client.py", "tokens.py", "graph.py", "experience.py", "caching.py")
    }
    for file, text in written.items():
        assert file.read_text() == text, f"{file.name} is old; run scripts/generate_sync.py"


@pytest.mark.parametrize("pair", TWINS, ids=lambda pair: pair[1].__name__)
def test_twins_have_the_same_methods(pair):
    ours, theirs = public(pair[0]), public(pair[1])
    for name in [n for n in ours if spelled(pair[0], n) in ASYNC_ONLY]:
        del ours[name]
    assert set(ours) == set(theirs)
    for name, method in ours.items():
        asynchronous, sync = inspect.signature(method), inspect.signature(theirs[name])
        assert list(asynchronous.parameters.values()) == list(sync.parameters.values()), name
        given = re.sub(
            r"^AsyncGenerator\[(.*), None\]$", r"Iterator[\1]", asynchronous.return_annotation
        )
        assert given == sync.return_annotation, name
        assert not inspect.iscoroutinefunction(theirs[name])


def test_connects_take_the_same_settings():
    sync, asynchronous = map(inspect.signature, (ngdata.connect, ngdata.connect_async))
    assert sync.parameters == asynchronous.parameters


def test_exported_names():
    assert ngdata.__all__ == ["AsyncClient", "Client", "connect", "connect_async", "errors"]
    assert datasets.__all__ == ["load_celegans", "load_celegans_async"]
    defined = [
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, Exception)
    ]
    assert errors.__all__ == sorted(defined)
    assert all(issubclass(getattr(errors, name), errors.NGDataError | Warning) for name in defined)


def test_pages_name_every_public_name():
    text = "".join(page.read_text() for page in PAGES)
    names = {name for _, cls in TWINS for name in public(cls)} | set(errors.__all__)
    names |= {"connect", "connect_async", *datasets.__all__} - {"load_celegans_async"}
    assert [name for name in sorted(names) if not re.search(rf"\b{name}\b", text)] == []


def test_readme_names_commands_that_exist():
    text = (ROOT / "README.md").read_text()
    commands = set(typer.main.get_command(app).commands)
    assert set(re.findall(r"(?:`|^)ngdata (\w+)", text, re.M)) <= commands
    assert all(f"`{command}`" in text or f"`ngdata {command}`" in text for command in commands)
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M)
    assert set(re.findall(r"\bmake (\w+) +#", text)) == {"demo", "test"} <= set(targets)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_architecture_names_every_module_and_no_other():
    rows = re.findall(
        r"^\| (`.+?) \| (.+) \|$", (ROOT / "docs" / "architecture.md").read_text(), re.M
    )
    named = set()
    for subject, content in rows:
        for name in re.findall(r"`([\w/.]+)`", subject):
            if name.endswith("/"):
                named |= {name + inner for inner in re.findall(r"`(\w+\.py)`", content)}
            else:
                named.add(name)
    there = {p.relative_to(PACKAGE).as_posix() for p in PACKAGE.rglob("*.py")}
    assert named == {path for path in there if not path.endswith("__init__.py")}


def test_every_module_says_what_it_holds():
    for path in PACKAGE.rglob("*.py"):
        assert ast.get_docstring(ast.parse(path.read_text())), path


def test_tab_offers_what_is_public():
    assert dir(ngdata) == sorted([*ngdata.__all__, "__version__"])
