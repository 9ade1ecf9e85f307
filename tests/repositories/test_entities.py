"""Entities by themselves: what their attributes take, and what is refused before anything is sent."""

import datetime as dt
import uuid

import numpy as np
import pytest
from sqlalchemy import MetaData

from ngdata.errors import InvalidQueryError
from ngdata.repositories import (
    ConnectionModel,
    EventModel,
    ExperienceEventModel,
    GraphSnapshotModel,
    TokenModel,
)

ID = "00000000-0000-4000-8000-00000000000A"


def test_metadata_is_the_rows_own_and_sqlalchemys_on_the_class():
    token = TokenModel(metadata={"a": 1})
    assert token.metadata == token.metadata_ == {"a": 1}
    token.metadata = {"b": 2}
    assert token.metadata_ == {"b": 2}
    assert isinstance(TokenModel.metadata, MetaData)
    assert TokenModel.metadata.tables["tokens.tokens"] is TokenModel.__table__
    assert TokenModel.__table__.c.metadata is not None
    for model in (ConnectionModel, EventModel, GraphSnapshotModel):
        assert model(metadata={"c": 3}).metadata == {"c": 3}


def test_times_are_milliseconds_or_have_a_zone():
    expected = dt.datetime(2023, 11, 14, 22, 13, 20, 500_000, tzinfo=dt.UTC)
    assert TokenModel(timestamp=1_700_000_000_500).timestamp == expected
    assert EventModel(timestamp=np.int64(1_700_000_000_500)).timestamp == expected
    there = expected.astimezone(dt.timezone(dt.timedelta(hours=3)))
    assert TokenModel(timestamp=there).timestamp == expected
    with pytest.raises(
        InvalidQueryError, match=r"timestamp must have a time zone, but is 2023-11-14 "
    ):
        TokenModel(timestamp=dt.datetime(2023, 11, 14))


def test_ids_are_text_or_uuids():
    assert TokenModel(id=ID).id == uuid.UUID(ID)
    assert ConnectionModel(source_id=uuid.UUID(ID)).source_id == uuid.UUID(ID)
    assert TokenModel(id=None).id is None
    with pytest.raises(InvalidQueryError, match=r"target_id must be a UUID, .* not 'x'"):
        ConnectionModel(target_id="x")


def test_coordinates_are_eight_with_gaps():
    token = TokenModel(coord_x=np.arange(8), coord_y=(1, None, np.nan, 4, 5, 6, 7, 8))
    assert token.coord_x == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    assert token.coord_y == [1.0, None, None, 4.0, 5.0, 6.0, 7.0, 8.0]
    assert all(type(x) is float for x in token.coord_x)


def test_dicts_are_copied_as_the_plain_values_that_are_written():
    given = {"a": np.arange(2), "b": np.float64(0.5)}
    event = EventModel(state_after=given)
    assert event.state_after == {"a": [0, 1], "b": 0.5}
    assert type(event.state_after["b"]) is float
    given["a"] = 3
    assert event.state_after["a"] == [0, 1]


@pytest.mark.parametrize(
    ("model", "values", "message"),
    [
        (TokenModel, {"coord_x": [1.0] * 7}, r"coord_x must be eight numbers.*1\.0"),
        (TokenModel, {"coord_y": "12345678"}, "coord_y must be eight numbers"),
        (TokenModel, {"coord_z": 1.0}, "coord_z must be eight numbers"),
        (TokenModel, {"coord_x": [1e38] * 8}, "each of coord_x must be a number of at most 1e"),
        (TokenModel, {"coord_x": [True] * 8}, "each of coord_x .* not True"),
        (TokenModel, {"flags": -1}, "flags must be an integer from 0 to 2147483647, not -1"),
        (TokenModel, {"flags": 1.5}, "flags must be an integer"),
        (TokenModel, {"weight": float("inf")}, "weight must be a finite number, not inf"),
        (TokenModel, {"weight": "1"}, "weight must be a finite number, not '1'"),
        (TokenModel, {"token_type": 5}, "token_type must be text, not 5"),
        (TokenModel, {"token_type": "a\0"}, "token_type must be text without NUL"),
        (TokenModel, {"token_type": "\ud800"}, "token_type must be valid Unicode"),
        (TokenModel, {"binary_data": b"\0" * 63}, "binary_data must be 64 bytes"),
        (TokenModel, {"metadata": [1]}, r"metadata must be a dict, not \[1\]"),
        (TokenModel, {"metadata": {"a": float("nan")}}, "metadata cannot be written as JSON"),
        (TokenModel, {"timestamp": True}, "timestamp must be a time"),
        (ConnectionModel, {"bidirectional": 1}, "bidirectional must be True or False, not 1"),
        (EventModel, {"sequence_number": 2**63}, "sequence_number must be an integer"),
        (EventModel, {"reward": None, "priority": float("nan")}, "priority must be a finite"),
    ],
)
def test_what_cannot_be_is_refused_when_it_is_set(model, values, message):
    with pytest.raises(InvalidQueryError, match=message):
        model(**values)


def test_an_unknown_attribute_is_a_mistake():
    with pytest.raises(TypeError, match="coords"):
        TokenModel(coords=[0.0] * 8)


def test_the_other_end():
    a, b = uuid.uuid4(), uuid.uuid4()
    edge = ConnectionModel(id=ID, source_id=a, target_id=b)
    assert (edge.other_end(a), edge.other_end(str(b))) == (b, a)
    assert ConnectionModel(source_id=a, target_id=a).other_end(a) == a
    with pytest.raises(InvalidQueryError, match="has no end at"):
        edge.other_end(uuid.uuid4())


def test_a_repr_needs_no_database():
    assert repr(TokenModel(id=ID)) == f"<TokenModel {ID.lower()}>"
    assert repr(EventModel()) == "<EventModel without id>"


def test_the_layers_own_name_of_events():
    assert ExperienceEventModel is EventModel
