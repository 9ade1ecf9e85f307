"""Documentation is correct: examples run, names exist, both clients and all pages are complete."""

import ast
import asyncio
import doctest
import importlib
import importlib.util
import inspect
import pickle
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
from ngdata import datasets, errors, files, plot, regions
from ngdata._client.cache import AsyncCache
from ngdata._client.experience import AsyncExperience
from ngdata._client.graph import AsyncGraph
from ngdata._client.recorder import AsyncRecorder
from ngdata._client.sync.cache import Cache
from ngdata._client.sync.experience import Experience
from ngdata._client.sync.graph import Graph
from ngdata._client.sync.recorder import Recorder
from ngdata._client.sync.tokens import Tokens
from ngdata._client.tokens import AsyncTokens
from ngdata._store import migrate
from ngdata.admin.cli import app
from tests.conftest import IS_PANDAS_2

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "ngdata"
DOCS = ROOT / "docs"
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *(page for page in sorted(DOCS.rglob("*.md")) if "_build" not in page.parts),
]
OWN_SERVER = DOCS / "howto" / "own-server.md"


def path_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


# Examples here use await at the top level; the sync classes have the same ones without it.
ASYNC_MODULES = {
    "ngdata._client.tokens",
    "ngdata._client.token_batches",
    "ngdata._client.token_lookups",
    "ngdata._client.token_summaries",
    "ngdata._client.token_writes",
    "ngdata._client.graph",
    "ngdata._client.graph_writes",
    "ngdata._client.experience",
    "ngdata._client.experience_writes",
    "ngdata._client.async_client",
    "ngdata._client.cache",
    "ngdata._client.connect",
    "ngdata._client.recorder",
}
# The doctest finder finds what has a public path there too.
AWAITING_NAMES = ("ngdata.AsyncClient", "ngdata.connect_async")

PAIRS = [
    (ngdata.AsyncClient, ngdata.Client),
    (AsyncTokens, Tokens),
    (AsyncGraph, Graph),
    (AsyncExperience, Experience),
    (AsyncCache, Cache),
    (AsyncRecorder, Recorder),
]
# The sync client connects in its constructor.
ASYNC_ONLY = {"AsyncClient.open"}


def public(cls: type) -> dict[str, object]:
    names = sorted(name for name in dir(cls) if not name.startswith("_"))
    return {name: getattr(cls, name) for name in names}


def qualified(cls: type, name: str) -> str:
    return f"{cls.__name__}.{name}"


METHODS = [
    pytest.param(method, id=qualified(cls, name))
    for pair in PAIRS
    for cls in pair
    for name, method in public(cls).items()
]
FUNCTIONS = [
    pytest.param(getattr(module, name), id=name)
    for module in (ngdata, datasets, files, plot)
    for name in module.__all__
    if inspect.isfunction(getattr(module, name))
]


def modules_with_examples() -> list[str]:
    names = [module.name for module in pkgutil.walk_packages(ngdata.__path__, "ngdata.")]
    return [
        name
        for name in ("ngdata", *names)
        if name not in ASYNC_MODULES and examples_of(importlib.import_module(name), {})
    ]


def examples_of(module: object, globs: dict[str, object]) -> list[doctest.DocTest]:
    tests = doctest.DocTestFinder(exclude_empty=True).find(module, globs=globs)
    return [t for t in tests if t.examples and not t.name.startswith(AWAITING_NAMES)]


def run_example(test: doctest.DocTest) -> None:
    failures: list[str] = []
    with pd.option_context("display.width", 100, "display.max_columns", None):
        doctest.DocTestRunner().run(test, out=failures.append)
    assert not failures, "".join(failures)


@pytest.fixture(scope="module")
def store(server):
    """Open a store for examples only: they load the sample and write to it."""
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


TOUR = DOCS / "tour.md"
# Where a reader begins.  These pages leave what they found, so they share a store with the sample.
FIRST_PAGES = [
    ROOT / "README.md",
    *(DOCS / name for name in ("index.md", "quickstart.md", "tour.md")),
    *sorted((DOCS / "tutorials").glob("*.md")),
    *(page for page in sorted((DOCS / "howto").glob("*.md")) if ">>>" in page.read_text()),
]
WITH_EXAMPLES = [page for page in PAGES if ">>>" in page.read_text() and page not in FIRST_PAGES]


def run_page(page: Path) -> None:
    run_example(doctest.DocTestParser().get_doctest(fenced(page, "python"), {}, page.name, None, 0))


@pytest.mark.parametrize("page", WITH_EXAMPLES, ids=path_of)
def test_examples_of_pages(migrated_database, monkeypatch, page):
    # A new database, like a reader's: statistics left by other tests would change plans.
    monkeypatch.setenv("NGDATA_DATABASE_URL", migrated_database)
    run_page(page)


@pytest.fixture(scope="module")
def sample_url(new_migrated_database):
    with new_migrated_database() as url, ngdata.connect(url) as client:
        datasets.load_celegans(client)
        yield url


@pytest.mark.parametrize("page", [*FIRST_PAGES, TOUR], ids=path_of)
def test_first_pages_leave_only_the_sample(sample_url, monkeypatch, page):
    if IS_PANDAS_2 and page.name == "experience.md":
        pytest.skip("pandas 2 writes times with all six digits of the microseconds")
    monkeypatch.setenv("NGDATA_DATABASE_URL", sample_url)
    run_page(page)
    with ngdata.connect() as ng:
        assert ng.describe().tokens.tolist() == [14171]
        assert ng.graph.describe().connections.sum() == 19373
        assert ng.experience.get_events().empty
        assert ng.experience.list_trajectories().empty
        assert ng.graph.list_snapshots().empty


def test_tables_are_those_of_the_catalog(store):
    page = (ROOT / "docs" / "tables.md").read_text()
    listed = [
        (table, *row)
        for table, section in re.findall(r"^## (\w+\.\w+)\n(.*?)(?=^## |\Z)", page, re.M | re.S)
        for row in re.findall(r"^\| `(\w+)` \| ([^|]+) \|", section, re.M)
    ]
    own = set(re.findall(r"`(\w+\.\w+)`", page.partition("Nine more tables")[2]))
    columns = store.sql(
        "SELECT attrelid::regclass::text AS relation, attname::text, format_type(atttypid, atttypmod)"
        " FROM pg_attribute JOIN pg_class AS c ON c.oid = attrelid"
        " WHERE relnamespace = ANY (ARRAY['tokens', 'graph', 'experience']::regnamespace[])"
        " AND relkind IN ('r', 'p') AND NOT relispartition AND attnum > 0 AND NOT attisdropped"
        " ORDER BY attrelid, attnum"
    )
    assert len(own & set(columns.relation)) == 9
    assert sorted(listed) == sorted(
        row for row in columns.itertuples(index=False, name=None) if row[0] not in own
    )


def test_every_python_block_of_a_page_runs():
    for page in PAGES:
        blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.M | re.S)
        assert all(block.startswith(">>> ") for block in blocks), page


def test_grants_on_the_page_are_sufficient(store):
    url = store._wrapped._settings.database_url.get_secret_value()
    role = f"reader_{uuid.uuid4().hex}"
    read_grant, write_grant = re.findall(r"^```sql\n(.*?)^```", OWN_SERVER.read_text(), re.M | re.S)
    as_role = f"{url}&options=-c%20role%3D{role}"
    point = {"x": [5.0], "y": [5.0], "z": [5.0]}
    execute(url, f"CREATE ROLE {role}")
    execute(url, read_grant.replace("TO ada", f"TO {role}"))
    with ngdata.connect(as_role) as ng:
        near = ng.tokens.find_nearest((0, 0, 0), k=2)
        assert len(ng.tokens.get(near.token_id)) == 2
        assert len(ng.graph.get_degree(near.token_id)) == 2
        assert "event_id" in ng.experience.get_events(limit=1)
        with pytest.raises(errors.NGDataError, match="permission denied"):
            ng.tokens.bulk_create(point)
    execute(url, write_grant.replace("TO ada", f"TO {role}"))
    with ngdata.connect(as_role) as ng:
        ids = ng.tokens.bulk_create(point)
        ng.tokens.update(ids, weight=2.0)
        ng.graph.create_connection(ids[0], ids[0])
        ng.experience.create_event("seen", token_id=ids[0], trajectory_id=uuid.uuid4())
        assert ng.tokens.find_in_region((5, 5, 5), (5, 5, 5)).weight.tolist() == [2.0]
        assert ng.tokens.delete(ids) == 1
    execute(url, f"DROP OWNED BY {role}; DROP ROLE {role}")


@pytest.mark.parametrize("function", METHODS + FUNCTIONS)
def test_docstrings_are_complete(function):
    text = inspect.getdoc(function)
    assert text, "no docstring"
    sections = dict(re.findall(r"^(\w+)\n-+\n(.*?)(?=^\w+\n-+\n|\Z)", text, re.M | re.S))
    assert ">>> " in sections["Examples"]
    signature = inspect.signature(function)
    documented = {
        n.strip("* ")
        for line in re.findall(r"^(\S.*?)(?: :|$)", sections.get("Parameters", ""), re.M)
        for n in line.split(",")
    }
    parameters = set(signature.parameters) - {"self"}
    assert documented == parameters
    if signature.return_annotation not in (None, "None"):
        assert {"Returns", "Yields"} & set(sections) or "Self" in str(signature.return_annotation)


def test_sync_classes_are_up_to_date():
    path = ROOT / "scripts" / "generate_sync.py"
    spec = importlib.util.spec_from_file_location("generate_sync", path)
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    written = generator.generate()
    assert {p.name for p in written} == {
        *("client.py", "connect.py", "tokens.py", "graph.py", "experience.py", "cache.py"),
        *(
            "recorder.py",
            "token_writes.py",
            "token_lookups.py",
            "token_batches.py",
            "token_summaries.py",
            "graph_writes.py",
            "experience_writes.py",
        ),
    }
    for file, text in written.items():
        assert file.read_text() == text, f"{file.name} is out of date; run scripts/generate_sync.py"


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair[1].__name__)
def test_both_clients_have_the_same_methods(pair):
    async_methods, sync_methods = public(pair[0]), public(pair[1])
    for name in [n for n in async_methods if qualified(pair[0], n) in ASYNC_ONLY]:
        del async_methods[name]
    assert set(async_methods) == set(sync_methods)
    for name, method in async_methods.items():
        asynchronous, sync = inspect.signature(method), inspect.signature(sync_methods[name])
        assert list(asynchronous.parameters.values()) == list(sync.parameters.values()), name
        returned = re.sub(
            r"^AsyncGenerator\[(.*), None\]$", r"Iterator[\1]", asynchronous.return_annotation
        )
        for own in ("Recorder", "PastClient"):
            returned = returned.replace(f"Async{own}", own)
        assert returned == sync.return_annotation, name
        assert not inspect.iscoroutinefunction(sync_methods[name])


def test_clients_as_of_a_pin_have_the_methods_of_the_others():
    for past, live in (
        (ngdata.PastClient, ngdata.Client),
        (ngdata.AsyncPastClient, ngdata.AsyncClient),
    ):
        assert set(public(past)) == set(public(live))
        for name, method in public(live).items():
            if name != "pin":  # there, the moment
                assert inspect.signature(method) == inspect.signature(getattr(past, name)), name


def test_public_names_show_the_public_path():
    for name in ngdata.__all__:
        exported = getattr(ngdata, name)
        if inspect.isfunction(exported) or inspect.isclass(exported):
            home = "ngdata.regions" if name in regions.__all__ else "ngdata"
            assert (exported.__module__, exported.__qualname__) == (home, name)
            assert pickle.loads(pickle.dumps(exported)) is exported
    assert str(ngdata.Client) == "<class 'ngdata.Client'>"


def test_exported_names():
    assert set(ngdata.__all__) - set(regions.__all__) == {
        *("AsyncClient", "Client", "connect", "connect_async"),
        *("AsyncPastClient", "PastClient", "Pin"),
        *("errors", "files", "ids", "plot", "regions"),
    }
    assert plot.__all__ == ["density", "graph", "outline", "path", "points", "rewards"]
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
    names = {name for _, cls in PAIRS for name in public(cls)} | set(errors.__all__)
    names |= {*ngdata.__all__, *datasets.__all__, *files.__all__, *plot.__all__} - {
        "load_celegans_async"
    }
    assert [name for name in sorted(names) if not re.search(rf"\b{name}\b", text)] == []


def test_pages_list_every_command_and_no_other():
    text = (DOCS / "commands.md").read_text()
    commands = set(typer.main.get_command(app).commands)
    assert set(re.findall(r"^\| `ngdata ([\w-]+)` \|", text, re.M)) == commands
    for page in PAGES:
        named = re.findall(r"(?:`|^)ngdata ([a-z][a-z-]*)(?:`|$)", page.read_text(), re.M)
        assert set(named) <= commands, page
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M)
    readme = (ROOT / "README.md").read_text()
    assert set(re.findall(r"\bmake (\w+) +#", readme)) == {"demo", "test"} <= set(targets)


@pytest.mark.parametrize("page", PAGES, ids=path_of)
def test_links_resolve(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
ROOMS = re.findall(r"^\| `(\w+/)` \| (.+) \|$", ARCHITECTURE, re.M)
STEPS = re.findall(r"^\| \d+ \| `(\S+)` \| `(\S+)` \|", ARCHITECTURE, re.M)


def test_architecture_has_a_row_for_every_package():
    packages = {f"{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")}
    assert sorted(room for room, _ in ROOMS) == sorted(packages)


@pytest.mark.parametrize(("room", "files"), ROOMS, ids=[room for room, _ in ROOMS])
def test_architecture_names_every_module_and_no_other(room, files):
    modules = {p.relative_to(PACKAGE / room).as_posix() for p in (PACKAGE / room).rglob("*.py")}
    named = re.findall(r"`([\w/]+\.py)`", files)
    assert sorted(named) == sorted(name for name in modules if not name.endswith("__init__.py"))


def test_paths_in_architecture_exist():
    text = re.sub(r"^\| `\w+/` \|.*$", "", ARCHITECTURE, flags=re.M)
    for path in re.findall(r"`([\w/]+(?:\.\w+|/))`", text):
        if "/" in path:
            assert (PACKAGE / path).exists() or (ROOT / path).exists(), path


@pytest.mark.parametrize(("path", "name"), STEPS)
def test_steps_in_architecture_exist(path, name):
    scope = ast.parse((PACKAGE / path).read_text()).body
    for part in name.split("."):
        nodes = [node for node in scope if getattr(node, "name", None) == part]
        assert nodes, f"{path} has no {name}"
        scope = getattr(nodes[0], "body", [])


def test_architecture_follows_one_read_and_one_write():
    assert len(STEPS) > 20


@pytest.mark.parametrize("page", PAGES, ids=path_of)
def test_paths_on_pages_exist(page):
    folders = "ngdata|migrations|tests|docs|scripts|benchmarks|notebooks"
    paths = re.findall(rf"`((?:{folders})/[\w./]*)`", page.read_text())
    missing = [path for path in paths if not (ROOT / path).exists() and "NNNN" not in path]
    # What `make docs` writes is not committed.
    missing = [path for path in missing if not path.startswith("docs/_build/")]
    assert not missing


def test_versions_agree():
    version = re.escape(ngdata.__version__)
    assert re.search(rf'^version = "{version}"$', (ROOT / "pyproject.toml").read_text(), re.M)
    assert re.search(rf"^version: {version}$", (ROOT / "CITATION.cff").read_text(), re.M)


def test_every_module_has_a_docstring():
    for path in PACKAGE.rglob("*.py"):
        assert ast.get_docstring(ast.parse(path.read_text())), path


def test_dir_lists_public_names():
    assert dir(ngdata) == sorted([*ngdata.__all__, "__version__"])
