"""The field tables: one rule per field for frames, rows and entities, and the same as the models."""

import math
import uuid
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sqlalchemy.dialects import postgresql

from ngdata._store.fields import CONNECTIONS, EVENTS, TOKENS, TRAJECTORIES, now
from ngdata._store.models import ConnectionModel, EventModel, TokenModel, TrajectoryModel
from ngdata.errors import IntegrityError, InvalidQueryError

ID = "00000000-0000-4000-8000-00000000000a"

MODELS = [TokenModel, ConnectionModel, EventModel, TrajectoryModel]

# What the server and its triggers set.
GENERATED = {
    TokenModel: {"id", "created_at", "updated_at"},
    ConnectionModel: {"id", "created_at"},
    EventModel: {"id", "created_at", "entry_number"},
    TrajectoryModel: {
        "id",
        "created_at",
        "start_time",
        "end_time",
        "ended_at",
        "event_count",
        "total_reward",
    },
}

SQL_TYPES = {
    "text": "TEXT",
    "float8": "DOUBLE PRECISION",
    "float8[]": "DOUBLE PRECISION[]",
    "int4": "INTEGER",
    "int8": "BIGINT",
    "bool": "BOOLEAN",
    "timestamptz": "TIMESTAMP WITH TIME ZONE",
    "uuid": "UUID",
    "jsonb": "JSONB",
    "bytea": "BYTEA",
}


def server_default(value):
    if value is now:
        return "now()"
    return f"'{value}'" if isinstance(value, str) else f"{value:g}"


@pytest.mark.parametrize("model", MODELS)
def test_a_model_has_the_columns_of_its_field_table(model):
    fields, table = model.__fields__, model.__table__
    assert fields.relation == table.fullname
    names = {field.name for field in fields.fields}
    assert len(names) == len(fields.fields)
    assert names | GENERATED[model] == {*table.columns.keys()}
    assert not names & GENERATED[model]
    for field in fields.fields:
        column = table.columns[field.name]
        sql_type = column.type.compile(postgresql.dialect())
        assert sql_type == SQL_TYPES[field.type.sql.rpartition("::")[2]], field.name
        assert column.nullable == (field.default is None and not field.required), field.name
        if field.default is False:
            assert str(column.server_default.arg) == "false"
        elif field.default is not None:
            assert str(column.server_default.arg) == server_default(field.default), field.name


def test_the_columns_of_frames():
    assert EVENTS.required == ("event_type", "timestamp")
    assert EVENTS.optional[:2] == ("event_id", "token_id")
    assert not {"coord_x", "id"} & {*TOKENS.required, *TOKENS.optional}
    assert TRAJECTORIES.optional == ("trajectory_id", "metadata")


def test_ids_are_kept_and_missing_ones_generated():
    frame = pd.DataFrame({"trajectory_id": [None, ID.upper(), None]})
    ids = TRAJECTORIES.check_frame(frame)["id"].to_pylist()
    assert ids[1] == ID
    assert len(set(ids)) == 3
    repeated = pd.DataFrame({"trajectory_id": [None, ID, None, ID]})
    with pytest.raises(IntegrityError, match=f"trajectory_id {ID} appears in rows 1 and 3"):
        TRAJECTORIES.check_frame(repeated)


def test_a_row_is_checked_like_a_frame_of_one_row():
    values = {
        "event_id": ID,
        "event_type": "seen",
        "timestamp": 1,
        "state_before": {"k": [1, 2]},
        "reward": None,
        "sequence_number": 3.0,
        "metadata": None,
    }
    frame = pd.DataFrame({name: pd.Series([value], dtype=object) for name, value in values.items()})
    row = EVENTS.check_row(values)
    table = EVENTS.table([row])
    assert table.to_pylist() == [row]
    columns = EVENTS.check_frame(frame)
    assert table.select([*columns]).to_pydict() == pa.table(columns).to_pydict()
    assert row["reward"] == 0.0
    assert row["state_before"] == '{"k": [1, 2]}'
    assert row["trajectory_id"] is None
    assert EVENTS.table([]).schema == table.schema


@pytest.mark.parametrize("missing", [None, np.nan, pd.NaT, pd.NA])
def test_a_missing_value_of_a_row(missing):
    row = TOKENS.check_row({"token_id": missing, "flags": missing, "binary_data": missing})
    assert uuid.UUID(row["id"]).version == 4
    assert row["flags"] == 0
    assert row["binary_data"] is None
    with pytest.raises(InvalidQueryError, match="event_type must be given"):
        EVENTS.check_row({"event_type": missing})


@pytest.mark.parametrize("nan", [math.nan, np.float32("nan"), Decimal("NaN"), Decimal("sNaN")])
def test_nan_is_no_number_for_an_entity(nan):
    with pytest.raises(InvalidQueryError, match="weight must be a number, not nan"):
        ConnectionModel(weight=nan)


@pytest.mark.parametrize("nan", [math.nan, np.float64("nan"), np.float32("nan")])
def test_nan_is_missing_in_a_column_and_a_mistake_as_a_single_value(nan):
    frame = pd.DataFrame({"source_id": [ID], "target_id": [ID], "weight": [nan]})
    assert CONNECTIONS.check_frame(frame)["weight"].to_pylist() == [1.0]
    with pytest.raises(InvalidQueryError, match="weight must be a number, not nan"):
        CONNECTIONS.check_row({"source_id": ID, "target_id": ID, "weight": nan})
    with pytest.raises(InvalidQueryError, match="weight must be a number, not nan"):
        ConnectionModel(weight=nan)
