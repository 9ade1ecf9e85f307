"""GeoParquet: other tools read the rows of the store, and a file is complete or does not exist."""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import subprocess
import sys
import time

import geopandas
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import shapely

import ngdata
from ngdata._arguments.texts import STR
from ngdata.errors import InvalidQueryError
from tests.conftest import IS_PANDAS_2, backends, with_texts
from tests.scaling.conftest import LIMITS, random_tokens, same_set, with_points


def metadata(path) -> dict:
    return json.loads(pq.read_metadata(path).metadata[b"geo"])


@pytest.fixture
def filled(ng):
    ng.tokens.bulk_create(random_tokens(1, 250), level="cognitive")
    return ng


def test_read_back_by_geopandas(filled, tmp_path):
    path = tmp_path / "tokens.parquet"
    box = ((-1, -15, 0), (1, 15, 1))
    expected = filled.tokens.find_in_region(*box, "cognitive")
    assert filled.tokens.to_geoparquet(path, *box, "cognitive", chunk_rows=40) == len(expected)
    result = geopandas.read_parquet(path)
    assert result.crs is None
    assert result.has_z.all()
    assert set(result.geom_type) == {"Point"}
    points = shapely.get_coordinates(result.geometry, include_z=True)
    assert points.tolist() == result[["x", "y", "z"]].to_numpy().tolist()
    same_set(with_texts(pd.DataFrame(result.drop(columns="geometry"))), expected)


def test_the_metadata_follow_the_specification(filled, tmp_path):
    path = tmp_path / "tokens.parquet"
    filled.tokens.to_geoparquet(path, *LIMITS, "cognitive", chunk_rows=100)
    expected = filled.tokens.find_in_region(*LIMITS, "cognitive")
    low, high = (getattr(expected[["x", "y", "z"]], name)().tolist() for name in ("min", "max"))
    assert metadata(path) == {
        "version": "1.1.0",
        "primary_column": "geometry",
        "columns": {
            "geometry": {
                "encoding": "WKB",
                "geometry_types": ["Point Z"],
                "crs": None,
                "edges": "planar",
                "bbox": [*low, *high],
            }
        },
    }
    file = pq.ParquetFile(path)
    groups = [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)]
    assert groups == [100, 100, 50]
    column = file.schema.column(file.schema.names.index("geometry"))
    assert (column.physical_type, column.max_definition_level) == ("BYTE_ARRAY", 0)


def test_points_are_the_bytes_that_geopandas_writes(filled, tmp_path):
    """The writer of GeoPandas produces the same points, and the same metadata of their column."""
    path, reference = tmp_path / "ours.parquet", tmp_path / "reference.parquet"
    filled.tokens.to_geoparquet(path, *LIMITS, "cognitive")
    frame = pq.read_table(path).to_pandas().drop(columns="geometry")
    geometry = geopandas.points_from_xy(frame.x, frame.y, frame.z)
    geopandas.GeoDataFrame(frame, geometry=geometry).to_parquet(reference, schema_version="1.1.0")
    assert pq.read_table(path)["geometry"].to_pylist() == (
        pq.read_table(reference)["geometry"].to_pylist()
    )
    ours, expected = (metadata(p)["columns"]["geometry"] for p in (path, reference))
    # GeoPandas omits the default of edges, and z in the box.
    for name in ("encoding", "geometry_types", "crs"):
        assert ours[name] == expected[name]


def test_every_bit_of_a_coordinate_is_kept(ng, tmp_path):
    values = [-0.0, 5e-324, -1e37, 1e37, 0.1, math.nextafter(1, 2)]
    with_points(ng, [(v, -v, v / 3) for v in values])
    path = tmp_path / "bits.parquet"
    assert ng.tokens.to_geoparquet(path, *LIMITS) == len(values)
    result = geopandas.read_parquet(path)
    points = shapely.get_coordinates(result.geometry, include_z=True)
    expected = result[["x", "y", "z"]].to_numpy()
    assert points.tobytes() == expected.tobytes()
    assert sorted(map(math.copysign, [1] * 6, expected[:, 0])) == [-1, -1, 1, 1, 1, 1]


@pytest.mark.parametrize(
    "columns", [["token_id"], ["weight", "x"], ["timestamp", "z", "y", "x", "token_id"]], ids=str
)
def test_only_the_selected_columns_are_written(filled, tmp_path, columns):
    path = tmp_path / "some.parquet"
    options = {"token_type": "a", "columns": columns}
    count = filled.tokens.to_geoparquet(path, *LIMITS, "cognitive", **options)
    assert pq.read_schema(path).names == [*columns, "geometry"]
    result = geopandas.read_parquet(path)
    expected = filled.tokens.find_in_region(*LIMITS, "cognitive", **options)
    assert count == len(result) == len(expected)
    same_set(with_texts(pd.DataFrame(result[columns])), expected, columns[0])


def test_a_whole_level(filled, tmp_path):
    path = tmp_path / "all.parquet"
    everything = filled.tokens.find_in_region(*LIMITS, "cognitive")
    assert filled.tokens.to_geoparquet(path, level="cognitive") == len(everything)
    above = filled.tokens.to_geoparquet(path, min_coords=(0, 0, 0), level="cognitive")
    assert above == (everything[["x", "y", "z"]] >= 0).all(axis="columns").sum()


def test_an_empty_region(ng, tmp_path):
    path = tmp_path / "none.parquet"
    assert ng.tokens.to_geoparquet(path, *LIMITS) == 0
    result = geopandas.read_parquet(path)
    assert result.empty
    assert "bbox" not in metadata(path)["columns"]["geometry"]
    expected = ng.tokens.find_in_region(*LIMITS)
    plain = pd.DataFrame(result.drop(columns="geometry"))
    if IS_PANDAS_2:  # without a value, a column of text is one of any objects
        plain = plain.astype({"token_id": STR, "token_type": STR})
    pd.testing.assert_frame_equal(plain, expected)


def test_a_frame_becomes_a_geodataframe(filled):
    frame = filled.tokens.find_in_region(*LIMITS, "cognitive")
    result = geopandas.GeoDataFrame(
        frame, geometry=geopandas.points_from_xy(frame.x, frame.y, frame.z)
    )
    assert result.geometry.z.tolist() == frame.z.tolist()
    assert result.crs is None


def test_plain_parquet_readers_can_skip_row_groups(filled, tmp_path):
    """x, y and z are columns too, with statistics for each row group."""
    path = tmp_path / "tokens.parquet"
    filled.tokens.to_geoparquet(path, *LIMITS, "cognitive", chunk_rows=50)
    statistics = pq.ParquetFile(path).metadata.row_group(0).column(2).statistics
    assert statistics.has_min_max
    result = pd.read_parquet(path, filters=[("x", ">=", 0.5), ("z", "==", 2.0)])
    expected = filled.tokens.find_in_region((0.5, -math.inf, 2), (math.inf, math.inf, 2), 4)
    same_set(with_texts(result.drop(columns="geometry")), expected)


@pytest.mark.parametrize("kind", ["str", "relative"])
def test_kinds_of_paths(filled, tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    path = str(tmp_path / "a b.parquet") if kind == "str" else "a b.parquet"
    assert filled.tokens.to_geoparquet(path, *LIMITS, "cognitive") == 250
    mask = os.umask(0o022)
    os.umask(mask)
    assert os.listdir() == ["a b.parquet"]
    assert os.stat("a b.parquet").st_mode & 0o777 == 0o666 & ~mask


def test_links_and_permissions_are_kept(filled, tmp_path):
    file, link = tmp_path / "private.parquet", tmp_path / "link.parquet"
    file.write_bytes(b"old")
    file.chmod(0o600)
    link.symlink_to(file)
    rows = filled.tokens.to_geoparquet(link, *LIMITS)
    assert link.is_symlink()
    assert file.stat().st_mode & 0o777 == 0o600
    assert len(pq.read_table(file)) == rows


def test_a_path_that_is_not_a_file_is_left_alone(filled, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(InvalidQueryError, match="a pipe"):
        filled.tokens.to_geoparquet(pipe, *LIMITS)
    assert pipe.is_fifo()
    with pytest.raises(InvalidQueryError, match="name too long"):
        filled.tokens.to_geoparquet("x" * 300, *LIMITS)


def test_an_existing_file_is_replaced(filled, tmp_path):
    path = tmp_path / "tokens.parquet"
    path.write_text("old")
    filled.tokens.to_geoparquet(path, *LIMITS, "cognitive")
    assert len(geopandas.read_parquet(path)) == 250
    assert [p.name for p in tmp_path.iterdir()] == ["tokens.parquet"]


@pytest.mark.parametrize(
    ("arguments", "options", "text"),
    [
        (("missing/x.parquet", *LIMITS), {}, "missing/x.parquet' cannot: No such file"),
        ((".", *LIMITS), {}, "must name a file"),
        (("x.parquet", (1, 1, 1), (0, 0, 0)), {}, "must not exceed"),
        (("x.parquet", *LIMITS, 9), {}, "level"),
        (("x.parquet", *LIMITS), {"columns": ["geom"]}, "unknown column 'geom'"),
        (("x.parquet", *LIMITS), {"columns": []}, "different column names"),
        (("x.parquet", *LIMITS), {"columns": "x"}, "different column names"),
        (("x.parquet", *LIMITS), {"columns": ["x", "x"]}, "different column names"),
        (("x.parquet", *LIMITS), {"columns": 5}, "different column names"),
        (("x.parquet", *LIMITS), {"chunk_rows": 0}, "chunk_rows"),
        (("x.parquet", *LIMITS), {"chunk_rows": 10**8}, "chunk_rows"),
        ((5, *LIMITS), {}, "path"),
        (("\0", *LIMITS), {}, "path"),
        (("", *LIMITS), {}, "path"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_invalid_arguments(filled, tmp_path, monkeypatch, arguments, options, text):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidQueryError, match=text):
        filled.tokens.to_geoparquet(*arguments, **options)
    assert list(tmp_path.iterdir()) == []


def test_a_cancelled_write_leaves_the_old_file(database_url, tmp_path):
    path = tmp_path / "tokens.parquet"
    path.write_text("old")

    async def run():
        async with await ngdata.connect_async(database_url) as ang:
            await ang.tokens.bulk_create(random_tokens(2, 5000))
            writing = asyncio.create_task(ang.tokens.to_geoparquet(path, *LIMITS, chunk_rows=1))
            while not any(p.name.endswith(".part") for p in tmp_path.iterdir()):
                await asyncio.sleep(0.001)
            writing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await writing
            assert await ang.pool_status() is not None
            busy = "state <> 'idle' AND application_name = 'ngdata'"
            # The server hears of it a moment later.
            async with asyncio.timeout(30):
                while await asyncio.to_thread(backends, database_url, busy):
                    await asyncio.sleep(0.05)

    asyncio.run(run())
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["tokens.parquet"]


def test_a_query_that_the_server_ends_leaves_no_file(ng, database_url, execute, tmp_path):
    ng.tokens.bulk_create(random_tokens(3, 5000))
    path = tmp_path / "tokens.parquet"

    async def run():
        async with await ngdata.connect_async(database_url, application_name="writer") as ang:
            writing = asyncio.create_task(ang.tokens.to_geoparquet(path, *LIMITS, chunk_rows=1))
            kill = (
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE application_name = 'writer' AND query LIKE 'COPY%spatial_index%'"
                " AND state = 'active'"
            )
            while not (await asyncio.to_thread(execute, database_url, kill))[0][0]:
                if writing.done():
                    return None
            return await asyncio.wait_for(asyncio.shield(writing), 60)

    try:
        written = asyncio.run(run())
    except ngdata.errors.NGDataError:
        written = None
    if written is None and not path.exists():
        assert list(tmp_path.iterdir()) == []
    else:
        assert len(geopandas.read_parquet(path)) == 5000  # all rows were sent before


def test_an_interrupted_script_leaves_no_file(database_url, ng, tmp_path):
    ng.tokens.bulk_create(random_tokens(4, 20_000))
    script = (
        "import sys, ngdata\n"
        "inf = float('inf')\n"
        "with ngdata.connect(sys.argv[1]) as ng:\n"
        "    try:\n"
        "        ng.tokens.to_geoparquet(sys.argv[2], (-inf,) * 3, (inf,) * 3, chunk_rows=1)\n"
        "    except KeyboardInterrupt:\n"
        "        print('interrupted', ng.tokens.count_in_region((-inf,) * 3, (inf,) * 3))\n"
    )
    command = [sys.executable, "-c", script, database_url, str(tmp_path / "tokens.parquet")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while not list(tmp_path.iterdir()):
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    assert output.split() == ["interrupted", "20000"]
    assert list(tmp_path.iterdir()) == []


def test_a_file_shows_one_moment(ng, database_url, execute, tmp_path):
    """A concurrent write is in the file completely or not at all: the read is one query."""
    ng.tokens.bulk_create(random_tokens(5, 3000).assign(flags=0))
    path = tmp_path / "tokens.parquet"

    async def run():
        async with await ngdata.connect_async(database_url) as ang:
            writing = asyncio.create_task(ang.tokens.to_geoparquet(path, *LIMITS, chunk_rows=10))
            while not list(tmp_path.iterdir()):
                await asyncio.sleep(0.001)
            await asyncio.to_thread(execute, database_url, "UPDATE tokens.tokens SET flags = 1")
            return await writing

    assert asyncio.run(run()) == 3000
    assert np.unique(pd.read_parquet(path).flags).size == 1
