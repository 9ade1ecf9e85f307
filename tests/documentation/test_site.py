"""The site: built without a warning, complete, its links right, and without anything of another host.

The notebooks are not executed here: `make docs` does that, and tests/sample/test_notebooks.py.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
import subprocess
import sys
import zlib
from collections import defaultdict
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import ngdata
from ngdata import admin, binary, datasets, errors, files, ids, plot, regions, repositories
from ngdata._client.sync.cache import Cache
from ngdata._client.sync.experience import Experience
from ngdata._client.sync.graph import Graph
from ngdata._client.sync.tokens import Tokens
from tests.conftest import ROOT

# The build takes 25 s of processor time, and longer than the usual limit on a machine with other work.
pytestmark = pytest.mark.timeout(900)

MODULES = (admin, binary, datasets, errors, files, ids, plot, regions, repositories)
# Not pages of ours: Sphinx writes them, and no page needs to lead there.
INDEXES = {"index.html", "genindex.html", "py-modindex.html", "search.html"}


class Tags(HTMLParser):
    """The ids and the addresses on a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.loaded: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = {name: value for name, value in attributes if value}
        self.ids |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.add(values["href"])
        elif tag == "link" and values.get("rel") not in (
            "canonical",
            "index",
            "search",
            "next",
            "prev",
        ):
            self.loaded |= {values["href"]} if "href" in values else set()
        else:
            self.loaded |= {values[name] for name in ("src", "data", "poster") if name in values}
            self.loaded |= {part.split()[0] for part in values.get("srcset", "").split(",") if part}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    output = tmp_path_factory.mktemp("site")
    # Each link that leads nowhere and each name that does not exist is an error.
    options = ["--nitpicky", "--fail-on-warning", "--keep-going", "-D", "nb_execution_mode=off"]
    command = [sys.executable, "-m", "sphinx", *options, "-c", ROOT / "docs", ROOT, output / "html"]
    built = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert built.returncode == 0, built.stderr
    return output / "html"


@pytest.fixture(scope="module")
def pages(site):
    return {path: Tags(path.read_text("utf-8")) for path in sorted(site.rglob("*.html"))}


@pytest.fixture(scope="module")
def inventory(site):
    """Return the page of each Python name, without the place on it."""
    packed = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    entry = re.compile(r"^(\S+) py:(\w+) \S+ ([^#\s]+)#", re.M)
    found = entry.findall(zlib.decompress(packed).decode())
    return {name: page for name, kind, page in found if kind != "module"}


def public_objects():
    """Yield each public object with its name; those of a module under the module's public name."""
    for name in ngdata.__all__:
        value = getattr(ngdata, name)
        if not inspect.ismodule(value) and name not in regions.__all__:
            yield f"ngdata.{name}", value
    for module in (*MODULES, importlib.import_module("ngdata.binary.loading")):
        for name in module.__all__:
            yield f"{module.__name__}.{name}", getattr(module, name)


def test_every_public_name_is_on_one_page(inventory):
    assert [name for name, _ in public_objects() if name not in inventory] == []
    pages_of = defaultdict(set)
    for name, value in public_objects():
        pages_of[id(value)].add(inventory[name])
    assert all(len(found) == 1 for found in pages_of.values())


NAMESPACES = {"tokens": Tokens, "graph": Graph, "experience": Experience, "cache": Cache}


def public_methods(cls: type) -> dict[str, object]:
    return {name: getattr(cls, name) for name in dir(cls) if not name.startswith("_")}


def test_every_method_of_a_client_is_on_the_page_of_its_namespace(inventory):
    for namespace, cls in NAMESPACES.items():
        methods = {f"ng.{namespace}.{name}" for name in public_methods(cls)}
        assert methods == {name for name in inventory if name.startswith(f"ng.{namespace}.")}
        assert len({inventory[name] for name in methods}) == 1
    own = {f"ngdata.Client.{name}" for name in public_methods(ngdata.Client)}
    assert own <= inventory.keys()


def returned_classes(cls: type) -> set[type]:
    """Return the classes of ngdata that methods return, as their annotations say."""
    classes = set()
    for method in filter(inspect.isfunction, public_methods(cls).values()):
        for name in re.findall(r"\w+", str(inspect.signature(method).return_annotation)):
            value = method.__globals__.get(name)
            if inspect.isclass(value) and value.__module__.startswith("ngdata"):
                classes.add(value)
    return classes


def test_every_class_of_a_result_is_documented_with_its_methods(inventory):
    classes = set().union(*map(returned_classes, [ngdata.Client, *NAMESPACES.values()]))
    assert len(classes) >= 6
    for cls in classes:
        assert f"{cls.__module__}.{cls.__name__}" in inventory
        if issubclass(cls, dict):
            continue
        for name, method in public_methods(cls).items():
            if inspect.isfunction(method) or isinstance(method, property):
                owners = [f"{owner.__module__}.{owner.__name__}" for owner in cls.__mro__]
                assert any(f"{owner}.{name}" in inventory for owner in owners), (cls, name)


def test_signatures_have_types_and_docstrings_do_not_repeat_them(site):
    page = (site / "docs" / "reference" / "tokens.html").read_text("utf-8")
    text = re.sub(r"<[^>]+>", "", page)
    assert re.search(r"max_distance:\s+float\s+\|\s+None\s+=\s+None", text)
    assert "max_distance (float" not in text
    assert "Leave out tokens further away than this." in text
    assert "ngdata._" not in text


def target_of(page: Path, address: str) -> tuple[Path, str]:
    path, _, fragment = address.partition("#")
    target = (page.parent / unquote(path)).resolve() if path else page
    return (target / "index.html" if target.is_dir() else target), unquote(fragment)


def is_internal(address: str) -> bool:
    return not urlsplit(address).scheme


def test_links_lead_to_places_that_exist(pages):
    for page, tags in pages.items():
        for address in filter(is_internal, tags.links):
            target, fragment = target_of(page, address)
            assert target.exists(), (page, address)
            if fragment and target in pages:
                assert fragment in pages[target].ids | {"", "top"}, (page, address)


def test_every_page_can_be_reached(site, pages):
    start = site / "docs" / "index.html"
    assert start in {
        target_of(site / "index.html", link)[0] for link in pages[site / "index.html"].links
    }
    reached, waiting = {start}, [start]
    while waiting:
        page = waiting.pop()
        for address in filter(is_internal, pages[page].links):
            target, _ = target_of(page, address)
            if target in pages and target not in reached:
                reached.add(target)
                waiting.append(target)
    unreached = {page.relative_to(site).as_posix() for page in pages.keys() - reached}
    assert unreached <= INDEXES


def test_nothing_is_loaded_from_another_host(site, pages):
    for page, tags in pages.items():
        for address in tags.loaded:
            assert urlsplit(address).scheme in ("", "data"), (page, address)
            if not urlsplit(address).scheme:
                assert target_of(page, address.partition("?")[0])[0].exists(), (page, address)
    for style in site.rglob("*.css"):
        loads = re.findall(r"(?:@import\s+|url\()\s*[\"']?([^\"')]+)", style.read_text("utf-8"))
        assert [load for load in loads if re.match(r"(https?:)?//", load)] == [], style


def test_figures_are_drawn_by_a_script_of_the_site(site, pages):
    page = site / "notebooks" / "02_graph.html"
    text = page.read_text("utf-8")
    assert text.count("data-figure=") >= 1
    scripts = [address.rpartition("/")[2].partition("?")[0] for address in pages[page].loaded]
    assert {"plotly.min.js", "figures.js"} <= set(scripts)
    # Other pages do not load its five megabytes.
    assert not any("plotly" in address for address in pages[site / "docs" / "index.html"].loaded)


def test_the_picture_of_the_readme_is_drawn_by_its_script(tmp_path):
    committed = ROOT / "docs" / "images" / "worm.png"
    spec = importlib.util.spec_from_file_location(
        "readme_picture", ROOT / "scripts" / "readme_picture.py"
    )
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    script.draw(tmp_path / "worm.png")
    sizes = [path.stat().st_size for path in (committed, tmp_path / "worm.png")]
    assert max(sizes) < 200_000
    assert abs(sizes[0] - sizes[1]) < 0.2 * sizes[0]
    readme = (ROOT / "README.md").read_text()
    assert "(docs/images/worm.png)" in readme.partition("\n## ")[0]
