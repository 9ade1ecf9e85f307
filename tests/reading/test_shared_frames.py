"""Frames over the memory of one answer, and copies where pandas has other internals."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from ngdata._query.model import Column, Kind
from ngdata._reading import frames
from ngdata._reading.answer import Answer
from tests.conftest import IS_PANDAS_2

COLUMNS = (Column("x", Kind.FLOAT), Column("id", Kind.TEXT), Column("at", Kind.TIME))


def answer():
    return Answer(
        pa.table(
            {
                "x": [1.0, 2.0],
                "id": ["a", "b"],
                "at": pa.array([1, 2], pa.timestamp("us", "UTC")),
            }
        ),
        COLUMNS,
    )


def without_block_manager(monkeypatch):
    """The private manager has gone, or has another name."""
    monkeypatch.setattr(frames, "_OTHER_OWNER", object())


def without_second_owner(monkeypatch):
    """References are counted elsewhere, so the last copy would write to the shared memory."""

    def unregistered(table, columns):
        data = {
            column.name: frames._READ_ONLY[column.kind](values)
            for column, values in zip(columns, table.columns, strict=True)
        }
        return pd.DataFrame(data, copy=False)

    monkeypatch.setattr(frames, "to_shared_frame", unregistered)


def without_copy_on_write(monkeypatch):
    """A shallow copy is the frame itself."""
    monkeypatch.setattr(frames, "to_shared_frame", frames.to_frame)
    monkeypatch.setattr(pd.DataFrame, "copy", lambda self, deep=True: self)


def with_an_error(monkeypatch):
    """Something else fails."""

    def fail(*_):
        raise RuntimeError

    monkeypatch.setattr(frames, "to_shared_frame", fail)


@pytest.mark.skipif(IS_PANDAS_2, reason="pandas 2 has no Copy-on-Write: frames are copies")
def test_this_pandas_can_share():
    assert frames._can_share()
    assert answer().is_shareable


@pytest.mark.parametrize(
    "break_sharing",
    [without_block_manager, without_second_owner, without_copy_on_write, with_an_error],
)
def test_a_pandas_with_other_internals_is_noticed(break_sharing, monkeypatch):
    break_sharing(monkeypatch)
    assert not frames._can_share()


def test_where_frames_cannot_share_each_is_a_copy(monkeypatch):
    expected = answer().frame()
    monkeypatch.setattr(frames, "_CAN_SHARE", False)
    # Not even called: it would fail.
    without_block_manager(monkeypatch)
    kept = answer()
    assert not kept.is_shareable
    changed, unchanged = kept.frame(), kept.frame()
    assert not np.shares_memory(changed["x"].to_numpy(), unchanged["x"].to_numpy())
    changed.loc[0] = changed.loc[1]
    changed["x"].array[:] = 9.0
    for frame in (unchanged, kept.frame()):
        pd.testing.assert_frame_equal(frame, expected)
