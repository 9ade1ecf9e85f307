"""CSV and Parquet files of any size are loaded whole or not at all, from Python and by the command."""

import asyncio
import csv
import gzip
import json

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import ngdata
from ngdata._arguments.texts import STR
from ngdata.admin import cli
from ngdata.errors import IntegrityError, InvalidQueryError
from ngdata.files import load, load_async, parts, write_parquet

EVERYWHERE = ([-np.inf] * 3, [np.inf] * 3)
ROOT = 720_575_940_628_857_210
CELLS = pd.DataFrame(
    {
        "root_id": np.arange(ROOT, ROOT + 500, dtype=np.uint64),
        "X": np.arange(500) / 8,
        "y": 1.0,
        "z": -1.0,
        "token_type": ["NA", "multi\nline", 'with "marks", and commas', "plain", None] * 100,
        "weight": [0.5, None] * 250,
        "timestamp": pd.date_range("2026-01-01", periods=500, freq="s", tz="Asia/Tokyo"),
        "metadata": [{"nested": {"n": n}} for n in range(499)] + [None],
    }
)
NAMES = {"x": "X", "token_id": "root_id"}


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(parts, "_PART_ROWS", 100)
    monkeypatch.setattr(parts, "_BLOCK_BYTES", 20_000)


def as_csv(frame, path, **options):
    """Write a frame as CSV with its dicts as JSON, as any program would."""
    dicts = {
        name: frame[name].map(json.dumps, na_action="ignore")
        for name in frame
        if frame[name].map(type).eq(dict).any()
    }
    frame.assign(**dicts).to_csv(path, index=False, **options)
    return path


def stored(ng):
    return ng.tokens.count_in_region(*EVERYWHERE)


def wrong(ng, path, match, error=InvalidQueryError, **options):
    with pytest.raises(error, match=match):
        load(ng, path, **options)


def test_a_file_of_any_form_is_stored_as_its_frame(ng, tmp_path):
    for name in ("c.csv", "c.tsv", "c.csv.gz", "C.CSV", "c.parquet", "own.parquet"):
        check_stored(ng, tmp_path / name)
        ng.tokens.delete(CELLS.root_id)


def check_stored(ng, path):
    if path.name == "own.parquet":
        write_parquet(CELLS, path)
    elif path.suffix == ".parquet":
        CELLS.to_parquet(path, row_group_size=120)
    else:
        as_csv(CELLS, path, sep="\t" if path.suffix == ".tsv" else ",")
    report = load(ng, path, columns=NAMES, level="motor", progress=False)
    assert (report.created, str(report)) == (500, f"{path}: 500 tokens created")
    columns = ["coords", "token_type", "weight", "timestamp", "metadata"]
    frame = ng.tokens.get(CELLS.root_id, columns=columns)
    assert frame.token_type.tolist() == CELLS.token_type.fillna("default").tolist()
    assert frame.weight.tolist() == CELLS.weight.fillna(1.0).tolist()
    assert (frame.timestamp == CELLS.timestamp).all()
    assert frame.metadata[:499].tolist() == CELLS.metadata[:499].tolist()
    assert frame.metadata[499] is None
    [level] = np.flatnonzero(~np.isnan(frame.coords[0][:, 0]))
    points = np.stack(frame.coords)[:, level]
    assert np.array_equal(points, CELLS[["X", "y", "z"]].to_numpy())


def test_connections_and_events_too(ng, database_url, tmp_path):
    load(ng, as_csv(CELLS, tmp_path / "c.csv"), columns=NAMES)
    ends = pd.DataFrame({"pre": CELLS.root_id[:-1], "post": CELLS.root_id[1:].to_numpy()})
    path = as_csv(ends.assign(bidirectional=[True, False, None] * 166 + [True]), tmp_path / "e.csv")
    names = {"source_id": "pre", "target_id": "post"}
    events = pd.DataFrame(
        {
            "event_type": "move",
            "token_id": CELLS.root_id,
            "timestamp": np.arange(500) + 1_767_225_600_000,
            "state_after": [{"n": [n]} for n in range(500)],
            "sequence_number": pd.array([1, None] * 250, "Int64"),
        }
    )

    async def both():
        async with await ngdata.connect_async(database_url) as ang:
            return [
                await load_async(ang, path, "connections", columns=names),
                await load_async(ang, as_csv(events, tmp_path / "events.tsv", sep="\t"), "events"),
            ]

    assert [report.created for report in asyncio.run(both())] == [499, 500]
    with ngdata.connect(database_url, ids="integer") as numbers:
        frame = numbers.graph.connections().sort_values("source_id")
        assert frame.source_id.tolist() == ends.pre.tolist()
        assert frame.target_id.tolist() == ends.post.tolist()
        frame = numbers.experience.get_events()
        assert frame.token_id.tolist() == CELLS.root_id.tolist()
        assert frame.state_after.tolist() == events.state_after.tolist()
        assert frame.timestamp[1] == pd.Timestamp(1_767_225_600_001, unit="ms", tz="UTC")


BAD_VALUES = [
    ("X", "7,5", "column 'X': x in {} must be a number, not '7,5'"),
    ("X", None, "column 'X': x in {} must be a number .*, not nan"),
    ("root_id", "-5", "column 'root_id': token_id in {} must be a UUID, or an integer"),
    ("root_id", str(2**64), "column 'root_id': token_id in {} must be a UUID"),
    ("weight", "heavy", "weight in {} must be a number, not 'heavy'"),
    ("timestamp", "2026-01-01T00:00:00", "timestamp in {} must have a time zone"),
    ("timestamp", "01/02/2026", "timestamp in {} must be a time, not"),
    ("metadata", "[1]", r"metadata in {} must be a dict, not \[1\]"),
    ("metadata", "{a", "metadata in {} must be a JSON object .*, not '{{a'"),
    ("metadata", '{"a": NaN}', "metadata in {} cannot be written as JSON: .* is NaN"),
]


def test_a_bad_value_is_named_with_its_line_and_undoes_the_whole_file(ng, tmp_path):
    text = CELLS.assign(metadata=CELLS.metadata.map(json.dumps)).astype(STR)
    # Each fifth value of token_type has two lines.
    line = f"line {423 + 2 + 85}"
    for column, value, match in BAD_VALUES:
        bad = text.copy()
        bad.loc[423, column] = value
        bad.to_csv(tmp_path / "c.csv", index=False)
        wrong(ng, tmp_path / "c.csv", f"/c.csv.*{match.format(line)}", columns=NAMES)
        if column == "metadata":
            CELLS.assign(metadata=bad.metadata).to_parquet(tmp_path / "c.parquet")
            problem = f"/c.parquet.*{match.format('row 423')}"
            wrong(ng, tmp_path / "c.parquet", problem, columns=NAMES)
    assert stored(ng) == 0


def test_ids_that_exist_or_name_nothing_are_named_as_in_the_file(ng, tmp_path):
    path = as_csv(CELLS, tmp_path / "c.csv")
    load(ng, path, columns=NAMES)
    problem = rf"c.csv, column 'root_id': token_id {ROOT} in line 2 already exists; nothing was"
    wrong(ng, path, problem, IntegrityError, columns=NAMES)
    assert stored(ng) == 500
    twice = as_csv(CELLS.iloc[[3, 4, 3]].assign(root_id=[7, 8, 7]), path)
    wrong(ng, twice, r"appears in lines 2 and 4", IntegrityError, columns=NAMES)
    ends = pd.DataFrame({"source_id": CELLS.root_id, "target_id": CELLS.root_id})
    ends.loc[333, "target_id"] = 5
    path = as_csv(ends, tmp_path / "ends.csv")
    wrong(
        ng,
        path,
        "ends.csv: target_id 5 in line 335 names no token",
        IntegrityError,
        kind="connections",
    )
    assert ng.graph.connections().empty


BAD_FILES = [
    (b"", "is empty; its first line must name the columns"),
    (b"x;y;z\n1;2;3\n", r"lacks the columns x, y, z; .* separated by ';'"),
    (b"X,y,z\n1,2,3\n", r"lacks the column x; it has X, y, z; .* --map x=NAME"),
    (b"x,y,z,x\n1,2,3,4\n", "two columns named 'x'"),
    (b"x,y,z\n1,2,3\n1,2\n", "has 3 columns, but line 3 has 2; a value that is missing"),
    (b"x,y,z\n1,2,3\n\n1,2,3,4\n", "has 3 columns, but line 4 has 4"),
    (b'x,y,z,token_type\n1,2,3,"open\n1,2,3,a\n', "a value in line 2 that is not CSV"),
    (b"x,y,z,token_type\n1,2,3,a\n1,2,3,caf\xe9\n", "not UTF-8 in line 3; .*iconv"),
    ("x,y,z\n".encode("utf-16"), "not UTF-8 in line 1; .*iconv -f UTF-16 "),
    (b"x,y,z,timestamp\n1,2,3,1767225600\n", "milliseconds.*looks like seconds"),
    (gzip.compress(b"x,y,z\n1,2,3\n")[:-9], "cannot be read: "),
    (gzip.compress(b"x,y,z\n1,2,3\n")[:10] + b"\xff" * 20, "cannot be read: .*decompress"),
    (b"x,y,z,token_id\n1,2,3,18446744073709551616\n", "not '18446744073709551616'$"),
    (b"x,y,z,kind\n1,2,3,a\n", "unknown column 'kind'"),
]


def test_a_bad_file_is_refused(ng, tmp_path):
    for content, match in BAD_FILES:
        path = tmp_path / ("c.csv.gz" if content[:2] == b"\x1f\x8b" else "c.csv")
        path.write_bytes(content)
        wrong(ng, path, f"c.csv.*{match}")
    assert stored(ng) == 0


def test_a_bad_line_is_named_behind_a_long_value(ng, tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "_BLOCK_BYTES", 2**20)
    limit = csv.field_size_limit()
    path = tmp_path / "c.csv"
    long = f'x,y,z,token_type,metadata\n1,2,3,5" wide,"{{""text"": ""{"a" * 200_000}""}}"\n'
    path.write_text(f"{long}1,2,3\n")
    wrong(ng, path, "has 5 columns, but line 3 has 3")
    path.write_text(long)  # An odd number of quotation marks.
    assert load(ng, path).created == 1
    assert csv.field_size_limit() == limit


def test_files_without_rows_and_with_a_mark_of_their_encoding(ng, tmp_path):
    path = tmp_path / "c.csv"
    path.write_bytes(b"x,y,z\n")
    assert load(ng, path).created == 0
    path.write_bytes(b"\xef\xbb\xbfx,y,z\r\n 1 ,2,3\r\n")
    assert load(ng, path).created == 1
    CELLS.drop(columns="metadata").to_csv(path)  # with its index, which has no name
    assert load(ng, path, columns=NAMES).created == 500
    CELLS[:0].to_parquet(tmp_path / "c.parquet")
    assert load(ng, tmp_path / "c.parquet", columns=NAMES).created == 0


BAD_ARGUMENTS = [
    ({"kind": "dreams"}, "kind must be 'tokens', 'connections' or 'events'"),
    ({"columns": {"zz": "z"}}, "columns maps 'zz', which is not a column .*did you mean 'z'"),
    ({"columns": {"weight": "Z"}}, "columns maps weight to 'Z', but .* has the columns"),
    ({"columns": {"weight": "x", "x": "x"}}, "columns maps two names to 'x'"),
    ({"columns": ["x"]}, "columns must be a mapping of names"),
    ({"columns": {"y": "x"}}, "columns maps y to 'x', but .* has a column y too"),
    ({"level": 1, "kind": "events"}, "level is for tokens"),
    ({"level": 9}, "level must be"),
    ({"extra": "drop"}, "extra must be"),
    ({"on_conflict": "replace"}, "on_conflict must be"),
    ({"path": "c.xlsx"}, "must end with .csv"),
    ({"path": "nowhere.csv"}, "nowhere.csv cannot be read: No such file"),
    ({"path": "."}, "not a regular file"),
    ({"path": "not.parquet"}, "not.parquet cannot be read"),
]


def test_arguments_are_checked_first(ng, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("c.csv", "c.xlsx", "not.parquet"):
        (tmp_path / name).write_text("x,y,z\n1,2,3\n")
    for arguments, match in BAD_ARGUMENTS:
        wrong(ng, **{"path": "c.csv", "match": match} | arguments)


def test_the_error_for_the_wrong_client_names_the_right_function(ng):
    wrong(ng._wrapped, "c.csv", "await load_async")
    with pytest.raises(InvalidQueryError, match=r"call load\(ng"):
        ng._loop.run(load_async(ng, "c.csv"))


def test_the_command(ng, database_url, tmp_path):
    path = as_csv(CELLS, tmp_path / "c.csv")
    maps = ["--map", "x=X", "--map", "token_id=root_id"]

    def command(*arguments):
        environment = {"NGDATA_DATABASE_URL": database_url}
        return CliRunner().invoke(cli.app, ["load", str(path), *arguments], env=environment)

    done = command(*maps, "--level", "6", "--id-space", "flywire")
    assert (done.exit_code, done.stdout) == (0, f"{path}: 500 tokens created\n")
    assert "100%" in done.stderr
    with ngdata.connect(database_url, ids="integer", id_space="flywire") as own:
        assert own.tokens.count_in_region(*EVERYWHERE, level=6) == 500
        assert own.tokens.get(ROOT).token_id.tolist() == [ROOT]
    done = command(*maps, "--quiet", "--id-space", "flywire")
    assert (done.exit_code, done.stdout) == (1, "")
    assert f"token_id {ROOT} in line 2 already exists" in done.stderr
    done = command("--map", "x")
    assert done.exit_code == 1
    assert "--map must name each column once, as OURS=THEIRS" in done.stderr


def test_ids_that_are_the_index_of_a_frame_are_kept(ng, tmp_path):
    path = tmp_path / "c.parquet"
    for ids in (range(20, 220), range(1000, 0, -5), [7, 5, 6]):
        frame = pd.DataFrame({"token_id": ids, "x": np.arange(len(ids)) / 2, "y": 0.0, "z": 0.0})
        frame.set_index("token_id").to_parquet(path)
        assert load(ng, path).created == len(ids)
        places = ng.tokens.join(frame[["token_id"]], columns=["x"]).x
        assert places.tolist() == frame.x.tolist()
        ng.tokens.delete(frame.token_id)
    assert stored(ng) == 0


# --- columns that are not known, and rows that exist --------------------------------------------------


def test_extra_columns_have_the_type_of_all_their_values(ng, tmp_path):
    count = len(CELLS)
    extra = {
        "size": [str(n) for n in range(count - 1)] + ["0.5"],
        "layer": ["3", "", "NA", "5"] * (count // 4),
        "is_left": ["True", "false"] * (count // 2),
        "name": ["NA", "AVA"] * (count // 2),
        "code": ["7"] * (count - 1) + ["007"],
        "supervoxel": [str(2**63 + n) for n in range(count)],
        "metadata.side": ["left"] * count,
    }
    path = as_csv(CELLS.drop(columns="metadata").assign(**extra), tmp_path / "c.csv")
    wrong(ng, path, 'unknown columns .* pass extra="metadata"', columns=NAMES)
    assert load(ng, path, columns=NAMES, extra="metadata").created == count
    rows = ng.tokens.get(CELLS.root_id, columns=["metadata"]).metadata
    for row in (0, 1, count - 1):
        expected = {
            "size": float(row) if row < count - 1 else 0.5,
            "is_left": row % 2 == 0,
            "name": "NA" if row % 2 == 0 else "AVA",
            "code": "7" if row < count - 1 else "007",
            "supervoxel": str(2**63 + row),
            "side": "left",
        } | ({"layer": {0: 3, 3: 5}[row % 4]} if row % 4 in (0, 3) else {})
        assert rows[row] == expected
        assert type(rows[row]["is_left"]) is bool


def test_parts_of_different_types_are_text(ng, tmp_path):
    large = 100_000_000_000_000_001  # which no float holds
    halves = {
        "count": ["1", "true"],
        "size": ["5", "False"],
        "supervoxel": [str(large), "0.5"],
        "share": ["0.5", "7"],
    }
    values = {name: np.repeat(pair, 250) for name, pair in halves.items()}
    path = as_csv(CELLS.drop(columns="metadata").assign(**values), tmp_path / "c.csv")
    load(ng, path, columns=NAMES, extra="metadata")
    rows = ng.tokens.get(CELLS.root_id, columns=["metadata"]).metadata
    assert rows[0] == {"count": "1", "size": "5", "supervoxel": str(large), "share": 0.5}
    assert rows[499] == {"count": "true", "size": "False", "supervoxel": "0.5", "share": 7.0}


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_rows_that_exist_are_skipped_or_updated_as_in_a_frame(ng, tmp_path, form):
    path = tmp_path / f"c.{form}"
    write = as_csv if form == "csv" else lambda frame, path: frame.to_parquet(path)
    write(CELLS[:200], path)
    load(ng, path, columns=NAMES)
    changed = CELLS.assign(token_type="changed", X=CELLS.X + 1)[150:]
    write(changed, path)
    report = load(ng, path, columns=NAMES, on_conflict="skip")
    assert (report.created, report.updated, report.skipped) == (300, 0, 50)
    assert str(report) == f"{path}: 300 tokens created, 50 skipped"
    types = ng.tokens.get(CELLS.root_id, columns=["token_type"]).token_type
    assert types[:200].eq(CELLS.token_type[:200].fillna("default")).all()
    assert types[200:].eq("changed").all()
    report = load(ng, path, columns=NAMES, on_conflict="update")
    assert (report.created, report.updated, report.skipped) == (0, 350, 0)
    frame = changed.rename(columns={"X": "x", "root_id": "token_id"})
    before = ng.tokens.get(CELLS.root_id)
    assert ng.tokens.bulk_create(frame, on_conflict="update").attrs["ngdata"]["updated"] == 350
    pd.testing.assert_frame_equal(ng.tokens.get(CELLS.root_id), before)

    # The second one is in another part than the first.
    changed.iloc[340, 0] = ROOT + 160
    write(changed, path)
    place = "line 342" if form == "csv" else "row 340"
    problem = f"column 'root_id': token_id {ROOT + 160} in {place} appears before too"
    for mode in ("skip", "update"):
        ng.tokens.delete(CELLS.root_id)
        wrong(ng, path, problem, IntegrityError, columns=NAMES, on_conflict=mode)
    assert stored(ng) == 0
