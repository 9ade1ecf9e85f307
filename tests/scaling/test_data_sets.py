"""Data sets: other tools skip most row groups, and ngdata answers from the files as the server does."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys

import dask.dataframe
import duckdb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import ngdata
from ngdata import EVERYWHERE, NOWHERE, Box, HalfSpace, Hull, Mesh, OrientedBox, Sphere
from ngdata._arguments.texts import STR
from ngdata._reading import data_sets
from ngdata.errors import InvalidQueryError
from ngdata.files import open_dataset
from tests.conftest import with_texts
from tests.scaling.conftest import LIMITS, random_events, random_tokens, same_set

pytestmark = pytest.mark.filterwarnings("ignore:the answer is empty")

COUNT = 6000
GROUP = 50
CUBE = 10.0
TETRAHEDRON = Mesh(
    [(1, 1, 1), (8, 1, 1), (1, 8, 1), (1, 1, 8)], [(0, 2, 1), (0, 1, 3), (1, 2, 3), (0, 3, 2)]
)
SHAPES = {
    "box": Box((1, 2, 3), (2, 3, 4)),
    "flat": Box((0, 0, 5), (CUBE, CUBE, 5)),
    "outside": Box((-9, -9, -9), (-1, -1, -1)),
    "half": HalfSpace((1, 1, 0), 4.0),
    "sphere": Sphere((5, 5, 5), 2.0),
    "point": Sphere((5, 5, 5), 0.0),
    "hull": Hull([(1, 1, 1), (6, 1, 2), (1, 6, 3), (2, 2, 9), (7, 7, 7)]),
    "mesh": TETRAHEDRON,
    "turned": OrientedBox((5, 5, 5), [(0.6, 0.8, 0), (-0.8, 0.6, 0), (0, 0, 1)], (2, 1, 3)),
    "complement": ~Sphere((5, 5, 5), 6.0),
    "difference": Sphere((5, 5, 5), 3.0) - Box((5, 5, 5), (9, 9, 9)),
    "union": Box((0, 0, 0), (1, 1, 1)) | Sphere((9, 9, 9), 1.0) | TETRAHEDRON,
    "everything": EVERYWHERE,
    "nothing": NOWHERE,
}


def points(count: int) -> pd.DataFrame:
    """Return tokens in a cube: a third on a grid, so that many are on the faces of regions."""
    random = np.random.default_rng(5)
    coords = random.random((count, 3)) * CUBE
    coords[::3] = np.round(coords[::3])
    frame = random_tokens(7, count)
    frame[["x", "y", "z"]] = coords
    return frame


@pytest.fixture
def filled(ng):
    ng.tokens.bulk_create(points(COUNT), level="motor")
    return ng


@pytest.fixture
def folder(filled, tmp_path):
    path = tmp_path / "data set"
    options = {"partitions": 4, "chunk_rows": GROUP}
    assert filled.tokens.to_geoparquet(path, level="motor", **options) == COUNT
    return path


def row_groups(path) -> list:
    files = [pq.ParquetFile(file) for file in sorted(path.iterdir())]
    return [file.metadata.row_group(n) for file in files for n in range(file.num_row_groups)]


def test_files_and_row_groups(filled, folder):
    names = sorted(os.listdir(folder))
    assert names == [f"part-0000{number}.parquet" for number in range(4)]
    assert [pq.read_metadata(folder / name).num_rows for name in names] == [COUNT // 4] * 4
    assert {group.num_rows for group in row_groups(folder)} == {GROUP}
    everything = filled.tokens.find_in_region(*LIMITS, "motor")
    same_set(with_texts(pd.read_parquet(folder).drop(columns="geometry")), everything)
    # The same store gives the same files.
    filled.tokens.to_geoparquet(folder.parent / "again", level="motor", partitions=4)
    again = pd.read_parquet(folder.parent / "again")
    pd.testing.assert_frame_equal(again, pd.read_parquet(folder))


@pytest.mark.parametrize(
    ("rows", "partitions", "sizes"), [(0, 3, [0]), (1, 3, [1]), (7, 3, [3, 3, 1])]
)
def test_few_rows(ng, tmp_path, rows, partitions, sizes):
    if rows:
        ng.tokens.bulk_create(random_tokens(1, rows))
    path = tmp_path / "few"
    assert ng.tokens.to_geoparquet(path, partitions=partitions) == rows
    files = sorted(path.iterdir())
    assert [pq.read_metadata(file).num_rows for file in files] == sizes
    same_set(open_dataset(path).find_in_region(*LIMITS), ng.tokens.find_in_region(*LIMITS))


def test_points_that_are_hard_to_order(ng, tmp_path):
    """Equal points, planes, and coordinates whose differences under- or overflow."""
    values = [0.0, -0.0, 5e-324, 1e-310, 1e-200, -1e37, 1e37, 1.0, 1.0]
    frame = {axis: np.roll(values, turn) for turn, axis in enumerate("xyz")}
    ng.tokens.bulk_create(frame)
    for level, change in (
        (1, {"z": 3.0}),
        (2, {"y": 0.0, "z": 0.0}),
        (3, dict.fromkeys("xyz", 1.0)),
    ):
        ng.tokens.bulk_create(
            frame | {a: np.full(len(values), v) for a, v in change.items()}, level=level
        )
    for level in range(4):
        path = tmp_path / str(level)
        assert ng.tokens.to_geoparquet(path, level=level, partitions=2, chunk_rows=1) == len(values)
        for region in (EVERYWHERE, Box((0, 0, 0), (1, 1, 1)), Box((-1e37,) * 3, (5e-324, 1, 1e37))):
            same_set(
                open_dataset(path).find_in_region(region),
                ng.tokens.find_in_region(region, level=level),
            )


def test_one_token_far_away_does_not_spoil_the_order(ng, tmp_path):
    frame = points(COUNT)
    frame.loc[0, ["x", "y", "z"]] = 1e30
    ng.tokens.bulk_create(frame)
    path = tmp_path / "far"
    assert ng.tokens.to_geoparquet(path, partitions=1, chunk_rows=GROUP) == COUNT
    data_set = open_dataset(path)
    found = data_set.find_in_region(SHAPES["box"])
    assert len(found) > 10
    assert found.attrs["ngdata"]["row_groups"] < 0.1 * data_set.row_groups
    assert data_set.count_in_region(EVERYWHERE) == COUNT


# --- other readers -----------------------------------------------------------------------------------


BOX = SHAPES["box"]
SIDES = list(zip("xyz", BOX.min_coords, BOX.max_coords, strict=True))
CONDITION = " AND ".join(f"{axis} BETWEEN {low} AND {high}" for axis, low, high in SIDES)
FILTERS = [
    (axis, operator, bound)
    for axis, low, high in SIDES
    for operator, bound in ((">=", low), ("<=", high))
]


def test_a_box_touches_at_most_a_tenth_of_the_row_groups(folder):
    low, high = np.array(BOX.min_coords), np.array(BOX.max_coords)
    near = 0
    for group in row_groups(folder):
        bounds = [group.column(place).statistics for place in (2, 3, 4)]
        near += all(b.max >= a and b.min <= c for b, a, c in zip(bounds, low, high, strict=True))
    assert 0 < near <= len(row_groups(folder)) / 10
    answer = open_dataset(folder).find_in_region(BOX)
    assert answer.attrs["ngdata"]["row_groups"] <= near


def test_duckdb_reads_at_most_a_tenth(filled, folder):
    with duckdb.connect() as connection:
        query = f"SELECT token_id FROM '{folder}/*.parquet' WHERE {CONDITION}"
        plan = connection.execute(f"EXPLAIN (ANALYZE, FORMAT json) {query}").fetchall()[0][1]
        rows = connection.execute(query).fetchall()
    expected = filled.tokens.find_in_region(BOX, level="motor")
    assert sorted(row[0] for row in rows) == sorted(expected.token_id)
    [scan] = [node for node in nodes(json.loads(plan)) if "row_groups_scanned" in node]
    assert scan["total_row_groups_to_scan"] == COUNT // GROUP
    assert 0 < scan["row_groups_scanned"] <= COUNT / GROUP / 10


def nodes(value):
    """Yield all dicts in JSON."""
    if isinstance(value, dict):
        yield value
    for part in (
        value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    ):
        yield from nodes(part)


def test_polars_reads_at_most_a_tenth(filled, folder):
    script = (
        "import sys, polars as pl\n"
        f"low, high = {BOX.min_coords}, {BOX.max_coords}\n"
        "frame = pl.scan_parquet(sys.argv[1] + '/*.parquet', use_statistics=True)\n"
        "for axis, a, b in zip('xyz', low, high):\n"
        "    frame = frame.filter(pl.col(axis).is_between(a, b))\n"
        "print(len(frame.collect()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"POLARS_VERBOSE": "1", "POLARS_MAX_THREADS": "1"},
    )
    expected = filled.tokens.find_in_region(BOX, level="motor")
    assert int(done.stdout) == len(expected)
    read = re.findall(r"reading (\d+) / (\d+) row groups", done.stderr)
    assert read, done.stderr
    assert sum(int(few) for few, _ in read) <= COUNT / GROUP / 10


# Dask itself calls a method of pandas with an argument that will go.
@pytest.mark.filterwarnings("ignore:The inplace keyword")
def test_dask_reads_at_most_a_tenth(filled, folder):
    frame = dask.dataframe.read_parquet(folder, split_row_groups=True)
    assert frame.npartitions == COUNT // GROUP
    few = dask.dataframe.read_parquet(folder, split_row_groups=True, filters=FILTERS)
    assert few.npartitions <= COUNT / GROUP / 10
    rows = few.compute(scheduler="synchronous").drop(columns="geometry").reset_index(drop=True)
    # Dask has a text dtype of its own.
    rows = rows.astype({"token_id": STR, "token_type": STR})
    same_set(rows, filled.tokens.find_in_region(BOX, level="motor"))


# --- without a server --------------------------------------------------------------------------------


@pytest.mark.parametrize("region", SHAPES.values(), ids=SHAPES)
def test_regions_are_those_of_the_server(filled, folder, region):
    data_set = open_dataset(folder)
    for filters in (
        {},
        {"token_type": "a"},
        {"flags": 5, "min_weight": 0.25, "token_type": ["b", "c"]},
    ):
        expected = filled.tokens.find_in_region(region, level="motor", **filters)
        answer = data_set.find_in_region(region, **filters)
        same_set(answer, expected)
        assert data_set.count_in_region(region, **filters) == len(expected)
        frames = list(data_set.iter_region(region, **filters))
        assert all(0 < len(frame) <= GROUP for frame in frames)
        if frames:
            pd.testing.assert_frame_equal(pd.concat(frames, ignore_index=True), answer)
        else:
            assert answer.empty


def test_random_regions(filled, folder):
    """Row groups that are left out, or taken without a look at their points, are so rightly."""
    random = np.random.default_rng(11)
    data_set, whole = open_dataset(folder), filled.tokens.find_in_region(*LIMITS, "motor")

    def shape():
        a, b = np.sort(np.round(random.random((2, 3)) * CUBE, int(random.integers(0, 2))), axis=0)
        kinds = [
            lambda: Box(a, b),
            lambda: Sphere(a, random.random() * 5),
            lambda: HalfSpace(random.normal(size=3), random.normal() * 5),
            lambda: Hull(random.random((6, 3)) * CUBE),
            lambda: TETRAHEDRON.moved(random.normal(size=3)),
        ]
        return kinds[random.integers(len(kinds))]()

    places = whole[["x", "y", "z"]].to_numpy()
    for _ in range(150):
        region = shape()
        for _ in range(random.integers(0, 4)):
            other = shape()
            region = [region & other, region | other, region - other, region ^ other, ~region][
                random.integers(5)
            ]
        expected = whole[region.contains(places)]
        assert data_set.count_in_region(region) == len(expected), region
        answer = data_set.find_in_region(region, columns=["token_id"])
        assert sorted(answer.token_id) == sorted(expected.token_id), region


def test_what_a_data_set_says(filled, folder):
    data_set = open_dataset(str(folder))
    assert (data_set.kind, data_set.level, len(data_set)) == ("tokens", 2, COUNT)
    assert data_set.row_groups == COUNT // GROUP
    assert repr(data_set) == (
        f"<DataSet of 6,000 tokens on level 2 (motor) in 4 files, {COUNT // GROUP} row groups>"
    )
    assert data_set.columns == filled.tokens.find_in_region(BOX).columns.tolist()
    answer = data_set.find_in_region(BOX.on("motor"), level="motor", columns=["x", "token_id"])
    assert answer.columns.tolist() == ["x", "token_id"]
    assert answer.attrs["ngdata"] | {"milliseconds": 0, "row_groups": 0} == {
        "source": "files", "version": None, "milliseconds": 0, "row_groups": 0, "level": 2, "unit": None,
    }  # fmt: skip


def test_attributes_units_and_integers(ng, database_url, tmp_path):
    ng.set_level(0, unit="µm")
    frame = random_tokens(3, 40).assign(token_id=range(40), metadata=[{"n": n} for n in range(40)])
    with ngdata.connect(database_url, ids="integer") as numbers:
        numbers.tokens.bulk_create(frame)
        columns = ["token_id", "x", "y", "z", "metadata", "metadata.n", "binary_data"]
        numbers.tokens.to_geoparquet(tmp_path / "n", columns=columns, partitions=2)
        expected = numbers.tokens.find_in_region(*LIMITS, columns=columns)
    answer = open_dataset(tmp_path / "n").find_in_region(*LIMITS)
    same_set(answer, expected)
    assert answer.token_id.dtype == "uint64"
    assert answer.attrs["ngdata"]["unit"] == open_dataset(tmp_path / "n").unit == "µm"
    with pytest.raises(InvalidQueryError, match="the filter needs the column flags"):
        open_dataset(tmp_path / "n").find_in_region(*LIMITS, flags=1)


def test_a_pin(filled, tmp_path):
    filled.pin("before")
    expected = filled.tokens.find_in_region(BOX, level="motor")
    filled.tokens.delete(within=(BOX, "motor"))
    past = filled.as_of("before")
    past.tokens.to_geoparquet(tmp_path / "past", level="motor", partitions=2)
    answer = open_dataset(tmp_path / "past").find_in_region(BOX)
    same_set(answer, expected)
    assert answer.attrs["ngdata"]["pin"]["label"] == "before"


def test_events(ng, tmp_path):
    ng.experience.bulk_create(random_events(4, 900))
    path = tmp_path / "events"
    assert ng.experience.to_parquet(path, partitions=3, chunk_rows=30) == 900
    data_set, everything = open_dataset(path), ng.experience.get_events()
    assert (data_set.kind, data_set.level, data_set.row_groups) == ("events", None, 30)
    pd.testing.assert_frame_equal(data_set.get_events(), everything)
    for first, last, event_type in (
        (0, 10, None),
        (100, 130, "a"),
        (899, 899, None),
        (450, 450, None),
    ):
        start, end = everything.timestamp[first], everything.timestamp[last]
        window = {"event_type": event_type} if event_type else {}
        answer = data_set.get_events(start, end, **window)
        pd.testing.assert_frame_equal(answer, ng.experience.get_events(start, end, **window))
    assert (
        data_set.get_events(everything.timestamp[100], everything.timestamp[120]).attrs["ngdata"][
            "row_groups"
        ]
        <= 3
    )
    columns = ["reward", "timestamp"]
    pd.testing.assert_frame_equal(data_set.get_events(columns=columns), everything[columns])
    with pytest.raises(InvalidQueryError, match="holds events, not tokens; use get_events"):
        data_set.find_in_region(*LIMITS)
    with pytest.raises(InvalidQueryError, match="columns must have timestamp"):
        ng.experience.to_parquet(tmp_path / "x", partitions=1, columns=["reward"])
    assert not (tmp_path / "x").exists()


def test_in_async_code(database_url, filled, tmp_path):
    async def write():
        async with await ngdata.connect_async(database_url) as ang:
            await ang.experience.to_parquet(tmp_path / "events", partitions=2)
            return await ang.tokens.to_geoparquet(tmp_path / "a", BOX, level="motor", partitions=2)

    count = asyncio.run(write())
    same_set(
        open_dataset(tmp_path / "a").find_in_region(BOX),
        filled.tokens.find_in_region(BOX, level="motor"),
    )
    assert count == len(open_dataset(tmp_path / "a"))
    assert open_dataset(tmp_path / "events").get_events().empty


# --- directories, mistakes, failures -----------------------------------------------------------------


def test_an_earlier_data_set(filled, folder):
    write = filled.tokens.to_geoparquet
    with pytest.raises(InvalidQueryError, match=r"has 4 files; .* overwrite=True"):
        write(folder, BOX, level="motor", partitions=1)
    opened = open_dataset(folder)
    assert len(opened) == COUNT
    count = write(folder, BOX, level="motor", partitions=1, overwrite=True)
    assert len(open_dataset(folder)) == count < COUNT
    assert os.listdir(folder.parent) == ["data set"]
    with pytest.raises(InvalidQueryError, match="open it again"):
        opened.find_in_region(BOX)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(InvalidQueryError, match=r"other files too, such as 'notes\.txt'"):
        write(folder, partitions=1, overwrite=True)
    assert (folder / "notes.txt").read_text() == "mine"
    empty = folder.parent / "empty"
    empty.mkdir(mode=0o700)
    write(empty, BOX, level="motor", partitions=1)
    assert len(open_dataset(empty)) == count
    assert empty.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("arguments", "options", "text"),
    [
        (("x",), {"partitions": 0}, "partitions must be"),
        (("x",), {"partitions": 10**6}, "partitions must be"),
        (("x",), {"partitions": "many"}, "partitions must be"),
        (("x",), {"partitions": 1, "chunk_rows": 0}, "chunk_rows"),
        (("x",), {"partitions": 1, "columns": ["x", "y", "token_id"]}, "it lacks z"),
        (("x",), {"partitions": 1, "columns": ["geom"]}, "unknown column 'geom'"),
        (("x",), {"partitions": 1, "overwrite": "yes"}, "overwrite"),
        (("x",), {"overwrite": True}, "overwrite is for the directory"),
        (("missing/x",), {"partitions": 1}, "cannot: No such file"),
        ((5,), {"partitions": 1}, "path of a directory"),
        (("\0",), {"partitions": 1}, "path of a directory"),
        (("file",), {"partitions": 1}, "is a file"),
        (("x", (1, 1, 1), (0, 0, 0)), {"partitions": 1}, "must not exceed"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_invalid_arguments(filled, tmp_path, monkeypatch, arguments, options, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(InvalidQueryError, match=text):
        filled.tokens.to_geoparquet(*arguments, **options)
    assert os.listdir() == ["file"]


def test_a_write_that_fails_leaves_nothing(filled, tmp_path, monkeypatch):
    def fail(self, frame):
        if self.rows >= 3000:
            raise OSError(28, "No space left on device")
        return add(self, frame)

    add = data_sets._DataSet.add
    monkeypatch.setattr(data_sets._DataSet, "add", fail)
    earlier = tmp_path / "earlier"
    with pytest.raises(ngdata.errors.NGDataError, match="is as it was before"):
        filled.tokens.to_geoparquet(earlier, level="motor", partitions=4, chunk_rows=GROUP)
    assert os.listdir(tmp_path) == []


def test_a_cancelled_write_leaves_the_earlier_data_set(database_url, filled, folder):
    async def run():
        async with await ngdata.connect_async(database_url) as ang:
            writing = asyncio.create_task(
                ang.tokens.to_geoparquet(
                    folder, level="motor", partitions=50, chunk_rows=1, overwrite=True
                )
            )
            while not any(name.endswith(".part") for name in os.listdir(folder.parent)):
                await asyncio.sleep(0.001)
            writing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await writing

    asyncio.run(run())
    assert os.listdir(folder.parent) == ["data set"]
    assert len(open_dataset(folder)) == COUNT


def test_what_is_not_a_data_set(filled, folder, tmp_path):
    def refused(path, text):
        with pytest.raises(InvalidQueryError, match=text):
            open_dataset(path)

    refused(tmp_path / "missing", "No such file")
    refused(5, "path")
    (tmp_path / "none").mkdir()
    refused(tmp_path / "none", "has no file named part-00000.parquet")
    for lost in (0, 2, 3):
        copy = tmp_path / f"without {lost}"
        shutil.copytree(folder, copy)
        (copy / f"part-0000{lost}.parquet").unlink()
        refused(copy, f"not complete: it lacks part-0000{lost}")
    mixed = tmp_path / "mixed"
    filled.tokens.to_geoparquet(mixed, level="motor", partitions=4)
    shutil.copy(folder / "part-00001.parquet", mixed)
    refused(mixed, "are of 2 data sets")
    random_tokens(1, 5).to_parquet(mixed / "part-00001.parquet")
    refused(mixed, "is not of a data set that ngdata wrote")
    (mixed / "part-00001.parquet").write_bytes(b"PAR1 damaged")
    refused(mixed, "cannot be read")


def test_a_damaged_file(folder):
    data_set = open_dataset(folder)
    path = folder / "part-00001.parquet"
    content = bytearray(path.read_bytes())
    content[4 : len(content) // 2] = bytes(len(content) // 2 - 4)
    path.write_bytes(content)
    with pytest.raises(InvalidQueryError, match=r"part-00001.parquet' cannot be read"):
        data_set.find_in_region(EVERYWHERE)
    path.unlink()
    with pytest.raises(InvalidQueryError, match="No such file"):
        data_set.find_in_region(EVERYWHERE)


@pytest.mark.parametrize(
    ("region", "level", "text"),
    [
        (BOX, 0, "level must be motor, .* not physical"),
        (BOX, 9, "level"),
        (BOX & Sphere((0, 0, 0), 1).on("sensory"), None, "on the level sensory"),
        ((0, 0, 0), None, "min_coords must be a region"),
        ((0, 0, np.nan), None, "min_coords"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_questions_that_a_data_set_cannot_answer(folder, region, level, text):
    with pytest.raises(InvalidQueryError, match=text):
        open_dataset(folder).find_in_region(region, level=level)
    with pytest.raises(InvalidQueryError, match="unknown column"):
        open_dataset(folder).find_in_region(BOX, columns=["weigth"])
    with pytest.raises(InvalidQueryError, match="holds tokens, not events"):
        open_dataset(folder).get_events()
