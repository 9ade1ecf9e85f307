"""What a cell shows that ends with an object: HTML without anything to run, and the same as text."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from IPython.lib.pretty import pretty

import ngdata
from ngdata._arguments.cards import Card

HOSTILE = "<script>alert('x')</script> & \"quoted\""


class Text(HTMLParser):
    """The text of a page, and the names of its elements."""

    def __init__(self, page):
        super().__init__()
        self.texts, self.tags = [], set()
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)

    def handle_data(self, data):
        self.texts.append(data)


def words(text):
    return sorted(re.findall(r"\S+", text))


def test_hostile_text_stays_text():
    card = Card(HOSTILE, [(HOSTILE, HOSTILE)], HOSTILE, HOSTILE)
    page = Text(card.html())
    assert "script" not in page.tags
    assert page.texts == [HOSTILE] * 5
    assert card.text().count(HOSTILE) == 5


@pytest.fixture
def objects(ng):
    ids = ng.tokens.bulk_create(
        {"x": np.arange(4.0), "y": 0.0, "z": 0.0, "token_type": [HOSTILE, "a", "a", "b"]}
    )
    ng.graph.create_connection(ids[0], ids[1], HOSTILE)
    ng.graph.create_snapshot(HOSTILE)
    pin = ng.pin(HOSTILE)
    with ng.experience.recorder() as recorder:
        yield {
            "client": ng,
            "past": ng.as_of(pin),
            "tokens": ng.tokens,
            "graph": ng.graph,
            "experience": ng.experience,
            "cache": ng.cache,
            "stats": ng.cache.stats(),
            "subgraph": ng.graph.subgraph(ids),
            "snapshot": ng.graph.load_snapshot(ng.graph.list_snapshots().snapshot_id[0]),
            "plan": ng.explain(ng.tokens.find_nearest, (0, 0, 0)),
            "pin": pin,
            "recorder": recorder,
            "async client": ng._wrapped,
        }


def test_html_and_text_say_the_same(objects):
    for name, value in objects.items():
        page, text = Text(value._repr_html_()), pretty(value)
        assert page.tags <= {"div", "strong", "table", "tbody", "tr", "th", "td", "pre"}, name
        assert words(" ".join(page.texts)) == words(text), name
        # In a list, one line.
        assert "\n" not in pretty([value]) or name == "plan", name


def test_what_they_say(objects):
    said = {name: pretty(value) for name, value in objects.items()}
    for name, count in (("tokens", 4), ("connections", 1), ("events", 0)):
        assert re.search(rf"  {name} +{count}\n", said["client"])
    assert "revision" in said["client"]
    assert f"as of pin {HOSTILE!r}" in said["past"]
    assert re.search(r"find_in_region +Return the tokens in a region", said["tokens"])
    assert re.search(r"misses +\d", said["cache"])
    assert "2 a" in said["subgraph"]
    assert HOSTILE in said["subgraph"]
    assert HOSTILE in said["snapshot"]
    assert repr(HOSTILE) in said["pin"]
    assert "spatial index" in said["plan"]


def test_many_rows_are_counted_about(ng, monkeypatch):
    from ngdata._query import overview

    monkeypatch.setattr(overview, "_MAX_COUNTED", 2)
    ng.tokens.bulk_create({"x": np.arange(4.0), "y": 0.0, "z": 0.0})
    assert re.search(r"tokens +about \d", pretty(ng))


def test_a_server_that_is_away_is_said(ng):
    ng.close()
    assert "problem" in pretty(ng)
    assert isinstance(ngdata.Box((0, 0, 0), (1, 1, 1))._repr_html_(), str)
