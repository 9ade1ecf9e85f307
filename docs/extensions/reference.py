"""The reference: which public name stands on which page.  Sphinx writes the pages from this list.

To add a public method, class, function or error, add its name to a page of `PAGES`; a test fails
while a public name is on no page, or on two.  ``ng`` is a client, as on all pages: ``ng.tokens`` has
the methods of its namespace.
"""

from __future__ import annotations

import functools
import inspect
import sys
import types
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NamedTuple

from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer

from ngdata._client.sync.cache import Cache
from ngdata._client.sync.experience import Experience
from ngdata._client.sync.graph import Graph
from ngdata._client.sync.tokens import Tokens


class Page(NamedTuple):
    """A page of the reference: its groups have a heading, and full names in their order."""

    name: str
    title: str
    text: str
    groups: dict[str, list[str]]
    module: str = ""


NAMESPACES: Final = {"tokens": Tokens, "graph": Graph, "experience": Experience, "cache": Cache}

# What begins a row of a table of methods, and the end of their full names.
OWNERS: Final = {
    **{f"ng.{name}": f"ng.{name}" for name in NAMESPACES},
    "ng": "ngdata.Client",
    "ngdata.files": "ngdata.files",
    "ngdata.plot": "ngdata.plot",
    "regions": "ngdata.regions.Region",
}


def _methods(namespace: str, names: str) -> list[str]:
    return [f"ng.{namespace}.{name}" for name in names.split()]


def _exported(module: str) -> list[str]:
    return [f"{module}.{name}" for name in import_module(module).__all__]


PAGES: Final = [
    Page(
        "client",
        "Connect, and the client",
        "`ngdata.connect` opens a client. Its parts are `ng.tokens`, `ng.graph`, `ng.experience` and"
        " `ng.cache`; the methods of the client itself are about the whole store.",
        {
            "Connect": ["ngdata.connect"],
            "The client": ["ngdata.Client"],
            "Pins": ["ngdata.Pin", "ngdata.PastClient"],
            "ng.cache": _methods("cache", "stats clear"),
        },
    ),
    Page(
        "tokens",
        "ng.tokens",
        "Tokens are points in up to eight 3D spaces, the levels. Every read returns a frame; a region"
        " is two corners of a box, or a value of `ngdata.regions`.",
        {
            "Regions": _methods(
                "tokens",
                "find_in_region iter_region iter_all count_in_region density to_dask to_geoparquet",
            ),
            "Nearest tokens": _methods(
                "tokens",
                "find_nearest find_within find_nearest_many find_within_many pairs_within",
            ),
            "By id and metadata": _methods("tokens", "get find join"),
            "Summaries": _methods("tokens", "aggregate sample"),
            "Writes": _methods("tokens", "create bulk_create bulk_load update bulk_update delete"),
        },
    ),
    Page(
        "graph",
        "ng.graph",
        "Connections link tokens: they have a direction, a type and a weight.",
        {
            "Connections and neighbors": _methods(
                "graph", "connections get_neighbors get_degree describe"
            ),
            "Paths and parts": _methods(
                "graph", "shortest_path shortest_lengths components subgraph"
            ),
            "Snapshots": _methods(
                "graph",
                "create_snapshot list_snapshots load_snapshot diff_snapshots delete_snapshots",
            ),
            "Writes": _methods("graph", "create_connection bulk_create update bulk_update delete"),
        },
    ),
    Page(
        "experience",
        "ng.experience",
        "Events happen to tokens at a time; trajectories are sequences of events.",
        {
            "Events": _methods(
                "experience",
                "get_events get_recent_events events_around describe to_dask to_parquet",
            ),
            "Over time": _methods("experience", "count_events resample_rewards"),
            "In space": _methods("experience", "activity_in_region mean_position"),
            "Trajectories": _methods(
                "experience",
                "list_trajectories get_trajectory start_trajectory end_trajectory"
                " delete_trajectories",
            ),
            "Writes": _methods(
                "experience", "create_event recorder bulk_create update_event delete_events"
            ),
        },
    ),
    Page(
        "results",
        "Results with methods",
        "Most methods return frames. These classes are what some return instead; they are not"
        " imported.",
        {
            "Graphs": ["ngdata._client.subgraph.Subgraph", "ngdata._client.snapshots.Snapshot"],
            "Viewer": ["ngdata._client.view.view.View", "ngdata._client.view.explorer.Shown"],
            "Recorder": ["ngdata._client.sync.recorder.Recorder"],
            "Plans, counters and health": [
                "ngdata._client.explain.Plan",
                "ngdata._reading.cache.stats.CacheStats",
                "ngdata._client.health.Health",
                "ngdata._client.health.DatabaseHealth",
                "ngdata._client.health.RedisHealth",
            ],
        },
    ),
    Page("regions", "Regions", "", {"": _exported("ngdata.regions")}, "ngdata.regions"),
    Page("plot", "Pictures", "", {"": _exported("ngdata.plot")}, "ngdata.plot"),
    Page("errors", "Errors and warnings", "", {"": _exported("ngdata.errors")}, "ngdata.errors"),
    Page("files", "Files", "", {"": _exported("ngdata.files")}, "ngdata.files"),
    Page("ids", "Integers as ids", "", {"": _exported("ngdata.ids")}, "ngdata.ids"),
    Page("datasets", "The sample", "", {"": _exported("ngdata.datasets")}, "ngdata.datasets"),
    Page("admin", "Administration", "", {"": _exported("ngdata.admin")}, "ngdata.admin"),
    Page(
        "async",
        "Async code",
        "An async client has the same namespaces and methods as `ngdata.Client`, with the same"
        " arguments and results; they are awaited: ``await ang.tokens.find_nearest(...)``. What a"
        " sync client iterates over (``iter_region``, ``iter_all``) is iterated by ``async for``.",
        {"": ["ngdata.connect_async", "ngdata.AsyncClient", "ngdata.AsyncPastClient"]},
    ),
    Page(
        "binary",
        "Binary records",
        "",
        {"": _exported("ngdata.binary"), "Files of records": _exported("ngdata.binary.loading")},
        "ngdata.binary",
    ),
    Page(
        "repositories",
        "Repositories",
        "",
        {"": _exported("ngdata.repositories")},
        "ngdata.repositories",
    ),
]

# What annotations call by one name, and what it is in words.
TYPES: Final = {
    "Aggregation": "``\"count\"``, or a column and a function: ``(\"y\", \"max\")``.",
    "Around": "A time, or the id of an event, which stands for its time.",
    "CacheMode": "``\"strict\"``, ``\"ttl\"`` or ``\"off\"``: when a cached answer is used.",
    "Cell": "The edge length of cubes, or one length for each axis.",
    "Coordinates": "Three numbers x, y, z: a sequence, an array, or what has the labels x, y and z.",
    "DaskFrame": "A ``dask.dataframe.DataFrame``.",
    "Direction": "``\"outgoing\"``, ``\"incoming\"`` or ``\"both\"``.",
    "Duration": "A ``timedelta``, a number of seconds, or text such as ``\"5min\"``.",
    "EllipsisType": "The default, ``...``: leave the value as it is.",
    "Extra": "``\"refuse\"`` or ``\"metadata\"``: what becomes of columns that ngdata does not know.",
    "Frame": "A pandas or Polars frame, an Arrow table, or a mapping of columns.",
    "Frequency": "A `Duration`, or an offset of pandas such as ``\"D\"`` for days of the calendar.",
    "Id": "A UUID, as text or as ``uuid.UUID``.",
    "Ids": "An `Id`, or any sequence of them: a list, a Series, an array.",
    "Integers": "Integers from 0 to 2**64 - 1: a list, a Series, an array.",
    "Kind": "``\"tokens\"``, ``\"connections\"`` or ``\"events\"``: what the rows of a file become.",
    "Level": "A level's index from 0 to 7, or its name, such as ``\"physical\"``.",
    "MaxRows": "The most rows that an answer may have, None for no limit; by default the client's.",
    "Mode": "How connections are encrypted, from ``\"disable\"`` to ``\"verify-full\"``.",
    "OnBad": "``\"raise\"`` or ``\"skip\"``: what becomes of a damaged record.",
    "OnConflict": "``\"error\"``, ``\"skip\"`` or ``\"update\"``: what becomes of ids that exist.",
    "Points": "An array of shape (n, 3), a frame with x, y and z, or ids of tokens.",
    "Records": "Bytes of records, an array of records, or an iterable of bytes.",
    "Time": "A ``datetime`` with a time zone, text in ISO 8601, or milliseconds since the epoch.",
    "TokenId": "An `Id`, or an integer in the client's id space.",
    "TokenIds": "A `TokenId`, or any sequence of them: a list, a Series, an array.",
    "Window": "A region, a region and its level, or two corners with or without a level.",
    "Zone": "The name of a time zone, such as ``\"Europe/Berlin\"``, or a ``tzinfo``.",
}  # fmt: skip

_FOLDER: Final = Path(__file__).resolve().parent.parent / "reference"

# As pages write it: a client that has the four namespaces.
sys.modules["ng"] = types.ModuleType("ng")
for _name, _class in NAMESPACES.items():
    setattr(sys.modules["ng"], _name, _class)


def imported(name: str) -> tuple[Any, Any]:
    """Return the object of a full name, and what it belongs to."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            owner = value = import_module(".".join(parts[:end]))
        except ImportError:
            continue
        for part in parts[end:]:
            owner, value = value, getattr(value, part)
        return value, owner
    raise ImportError(name)


def listed() -> list[str]:
    """Return the full names on all pages."""
    return [name for page in PAGES for names in page.groups.values() for name in names]


def members(value: type) -> list[str]:
    """Return the public methods and properties that a class itself documents."""
    documented = (property, classmethod, staticmethod, types.FunctionType)
    return [
        name
        for name, member in vars(value).items()
        if not name.startswith("_") and isinstance(member, documented)
    ]


@functools.cache
def full_names() -> dict[str, list[str]]:
    """Return what each name, short or dotted, may stand for."""
    names: dict[str, list[str]] = {}

    def add(name: str, *others: str) -> None:
        parts = name.split(".")
        short = [".".join(parts[start:]) for start in range(len(parts))]
        for alias in {*short, *others}:
            names.setdefault(alias, []).append(name)

    for name in listed():
        value, owner = imported(name)
        last = name.rpartition(".")[2]
        if inspect.isclass(owner):
            add(name, f"{owner.__name__}.{last}")
        else:
            add(name, f"ngdata.{last}")
        if (
            inspect.isclass(value)
            and "repositories" not in name
            and not name.startswith("ngdata.Async")
        ):
            for member in members(value):
                client = [f"ng.{member}"] if last == "Client" else []
                add(f"{name}.{member}", *client)
    for namespace in NAMESPACES:
        add(f"ngdata.Client.{namespace}", f"ng.{namespace}")
    for module in {page.module for page in PAGES} - {""}:
        names.setdefault(module, []).append(module)
    for name in TYPES:
        names.setdefault(name, []).append(name)
    return names


def _data_text(name: str) -> list[str]:
    """Return the docstring below a value, in the module of the package that defines it."""
    package, _, last = name.rpartition(".")
    for module in sorted(sys.modules):
        if module.startswith(f"{package}."):
            texts = ModuleAnalyzer.for_module(module).find_attr_docs()
            if ("", last) in texts:
                return texts["", last]
    raise LookupError(f"{name} has no docstring below it")


def _directive(name: str) -> list[str]:
    value, owner = imported(name)
    options = []
    if inspect.isclass(owner):
        kind = "automethod"
    elif inspect.isclass(value):
        kind = "autoexception" if issubclass(value, Exception) else "autoclass"
        if not name.startswith("ngdata.Async") and not name.endswith(".Base"):
            options += [":members:"]
        if name.startswith("ngdata.repositories.") and name.endswith(("Repository", "Manager")):
            options += [":inherited-members: Generic"]
        if issubclass(value, Exception):
            options += [":show-inheritance:"]
    elif inspect.isfunction(value):
        kind = "autofunction"
    else:
        module, _, last = name.rpartition(".")
        text = [f"   {line}" for line in _data_text(name)]
        return [f".. py:data:: {last}", f"   :module: {module}", "", *text, ""]
    return [f".. {kind}:: {name}", *(f"   {option}" for option in options), ""]


def _heading(text: str, line: str) -> list[str]:
    return [text, line * len(text), ""]


def _page(page: Page) -> str:
    lines = [".. default-role:: name", "", *_heading(page.title, "=")]
    if page.module:
        lines += [f".. automodule:: {page.module}", "   :no-members:", ""]
    if page.text:
        lines += [page.text, ""]
    namespaces = {
        name.split(".")[1]
        for names in page.groups.values()
        for name in names
        if name.startswith("ng.")
    }
    for namespace in sorted(namespaces):
        # A target for `ng.tokens`: the page.
        lines += [
            f".. py:attribute:: Client.{namespace}",
            "   :module: ngdata",
            "   :no-typesetting:",
            "",
        ]
    for heading, names in page.groups.items():
        lines += _heading(heading, "-") if heading else []
        for name in names:
            lines += _directive(name)
    return "\n".join(lines)


def _types_page() -> str:
    lines = [".. default-role:: name", "", *_heading("Types in signatures", "=")]
    lines += ["Signatures write these types by their names. They are not imported.", ""]
    for name, text in TYPES.items():
        lines += [f".. py:type:: {name}", "", f"   {text}", ""]
    return "\n".join(lines)


def write_pages(app: Sphinx | None = None) -> None:
    """Write the pages that changed, and remove others."""
    texts = {f"{page.name}.rst": _page(page) for page in PAGES}
    texts["types.rst"] = _types_page()
    _FOLDER.mkdir(exist_ok=True)
    for path in _FOLDER.iterdir():
        if path.name not in texts:
            path.unlink()
    for name, text in texts.items():
        path = _FOLDER / name
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.connect("builder-inited", write_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
