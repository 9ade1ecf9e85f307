"""COPY in several statements: still one write, which shows its progress."""

import re

import numpy as np
import pandas as pd
import pytest

import ngdata
from ngdata._store import graph, tokens
from ngdata.binary import encode_tokens
from ngdata.binary.loading import load_records
from ngdata.errors import IntegrityError
from tests.conftest import execute
from tests.schema.test_triggers import derived, indexed

# 37% of 1.20k, [00:02<00:04, 301 rows/s]: the progress, the elapsed time, and the time left.
BAR = re.compile(
    r"\d+%\|.*\| [\d.]+k?/[\d.]+k? \[\d\d:\d\d<(\d\d:\d\d|\?), +(\?|[\d.]+k?) (rows|records)/s\]"
)


@pytest.fixture
def in_parts(monkeypatch):
    """Let one COPY write few rows, so that small writes need several, as loads of millions do."""
    monkeypatch.setattr(tokens, "_ROWS_WRITTEN_PER_COPY", 200)
    monkeypatch.setattr(graph, "ROWS_PER_COPY", 30)


@pytest.fixture
def slow(database_url):
    """A server on which each statement that writes takes a second."""
    tables = ("tokens.tokens", "graph.connections", "experience.experience_events")
    execute(
        database_url,
        "CREATE FUNCTION public.wait() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_sleep(1); RETURN NULL; END $$",
        *(
            f"CREATE TRIGGER wait BEFORE INSERT ON {table}"
            " FOR EACH STATEMENT EXECUTE FUNCTION public.wait()"
            for table in tables
        ),
    )
    yield
    execute(database_url, "DROP FUNCTION public.wait() CASCADE")


def points(rows, levels=1):
    coords = np.full((rows, 8, 3), np.nan)
    coords[:, :levels] = np.random.default_rng(1).normal(size=(rows, levels, 3))
    return coords


def copies(url):
    """Return how many statements wrote the tokens, by the xmin and cmin of their rows."""
    return execute(url, "SELECT count(DISTINCT (xmin::text, cmin::text)) FROM tokens.tokens")[0][0]


@pytest.mark.parametrize(("levels", "statements"), [(1, 3), (8, 12)])
def test_rows_are_written_by_several_statements(ng, database_url, in_parts, levels, statements):
    coords = points(250, levels)
    frame = pd.DataFrame({"weight": np.arange(250.0)})
    ids = ng.tokens.bulk_create(frame, coords=coords)
    assert copies(database_url) == statements
    stored = ng.tokens.get(ids)
    assert stored.weight.tolist() == frame.weight.tolist()
    np.testing.assert_array_equal(np.stack(stored.coords.to_list()), coords)
    assert indexed(database_url) == derived(database_url)


def test_a_bad_row_of_a_later_statement_undoes_the_earlier(ng, in_parts):
    existing = ng.tokens.create({0: (0.0, 0.0, 0.0)})
    frame = pd.DataFrame({"x": np.arange(250.0), "y": 0.0, "z": 0.0, "token_id": None})
    frame.loc[233, "token_id"] = existing
    with pytest.raises(IntegrityError, match=f"id {existing} in row 233 already exists"):
        ng.tokens.bulk_create(frame)
    assert ng.tokens.count_in_region((-np.inf,) * 3, (np.inf,) * 3) == 1
    lost = "00000000-0000-4000-8000-000000000000"
    ends = pd.DataFrame({"source_id": [existing] * 100, "target_id": [existing] * 99 + [lost]})
    with pytest.raises(IntegrityError, match=f"target_id {lost} in row 99 names no token"):
        ng.graph.bulk_create(ends)
    assert ng.graph.connections().empty


def shown(capsys):
    return [line for line in re.split(r"[\r\n]+", capsys.readouterr().err) if line.strip()]


WRITES = {
    "tokens": lambda ng, ids, **how: ng.tokens.bulk_create({}, coords=points(250), **how),
    "connections": lambda ng, ids, **how: ng.graph.bulk_create(
        {"source_id": list(ids) * 10, "target_id": list(ids) * 10}, **how
    ),
    "events": lambda ng, ids, **how: ng.experience.bulk_create(
        {"event_type": ["a"] * 45_000, "timestamp": [0] * 45_000}, **how
    ),
}


@pytest.mark.parametrize("what", WRITES)
def test_a_bar_is_shown_after_two_seconds(ng, in_parts, slow, capsys, what):
    ids = ng.tokens.bulk_create({}, coords=points(10), progress=False)
    if what == "events":
        # Events are one statement, so the bar is requested: it shows how many were sent.
        WRITES[what](ng, ids, progress=True)
    else:
        WRITES[what](ng, ids)
    lines = shown(capsys)
    assert any(BAR.search(line) for line in lines), lines
    WRITES[what](ng, ids, progress=False)
    assert shown(capsys) == []


def test_a_bar_is_shown_during_a_long_statement(ng, slow, database_url, capsys):
    execute(
        database_url,
        "CREATE OR REPLACE FUNCTION public.wait() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_sleep(3); RETURN NULL; END $$",
    )
    WRITES["tokens"](ng, None)
    assert any("0.00/250" in line for line in shown(capsys))


def test_no_bar_for_a_short_write(ng, in_parts, capsys):
    WRITES["tokens"](ng, None)
    assert shown(capsys) == []
    WRITES["tokens"](ng, None, progress=True)
    assert any("250/250" in line for line in shown(capsys))


def test_the_first_load_has_a_second_bar(migrated_database, capsys):
    with ngdata.connect(migrated_database) as ng:
        ng.tokens.bulk_create({}, coords=points(50), initial=True, progress=True)
    lines = shown(capsys)
    assert any(
        "building the spatial index: 100%" in line and "26.0/26.0" in line for line in lines
    ), lines


def test_a_file_has_a_bar_too(ng, slow, tmp_path, capsys):
    path = tmp_path / "tokens.bin"
    encode_tokens({"local_id": np.arange(60_000)}, np.zeros((60_000, 8, 3))).tofile(path)
    load_records(ng, path)
    lines = shown(capsys)
    assert any(BAR.search(line) for line in lines), lines
