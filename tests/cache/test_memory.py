"""The tier in this process: limited in bytes, the least recently used is evicted first."""

import gc
import tracemalloc

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngdata._query.filters import TokenFilter
from ngdata._query.model import Column, Kind, Query, Region
from ngdata._query.places import Place
from ngdata._reading.answer import Answer
from ngdata._reading.cache.memory_tier import MemoryTier
from tests.conftest import IS_PANDAS_2

COLUMNS = (Column("x", Kind.FLOAT),)


def make_answer(rows=1):
    return Answer(pa.table({"x": [0.0] * rows}), COLUMNS, "v")


def query(level=None):
    region = None
    if level is not None:
        region = Region(Place.of((0.0,) * 3, (1.0,) * 3, level), TokenFilter())
    return Query("SELECT", COLUMNS, ("t",), region)


ONE = make_answer().nbytes


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("put"), st.integers(0, 9), st.integers(1, 40)),
            st.tuples(st.sampled_from(["get", "drop"]), st.integers(0, 9), st.just(0)),
            st.tuples(st.just("clear"), st.just(0), st.just(0)),
        ),
        max_size=80,
    )
)
def test_it_behaves_like_a_dict_that_evicts_the_least_recently_used(steps):
    memory, model = MemoryTier(ONE * 6), {}
    for operation, number, rows in steps:
        key = str(number)
        if operation == "put":
            new = make_answer(rows)
            memory.put(key, query(), new)
            model.pop(key, None)
            if new.nbytes <= memory.max_bytes // 2:
                model[key] = new
            while sum(answer.nbytes for answer in model.values()) > memory.max_bytes:
                del model[next(iter(model))]
        elif operation == "get":
            assert memory.get(key) is model.get(key)
            if key in model:
                model[key] = model.pop(key)
        elif operation == "drop":
            memory.drop(key)
            model.pop(key, None)
        else:
            memory.clear()
            model.clear()
        assert len(memory) == len(model)
        assert memory.nbytes == sum(answer.nbytes for answer in model.values()) <= memory.max_bytes


def test_a_limit_of_zero_keeps_nothing():
    memory = MemoryTier(0)
    memory.put("a", query(0), make_answer())
    assert (len(memory), memory.nbytes, memory.containing(query(0))) == (0, 0, [])


def test_a_limited_number_of_regions_is_searched_the_last_used_first():
    memory = MemoryTier(1 << 22)
    for number in range(100):
        memory.put(str(number), query(0), make_answer())
    assert [key for key, *_ in memory.containing(query(0))] == [str(n) for n in range(99, 67, -1)]
    memory.get("70")
    assert memory.containing(query(0))[0][0] == "70"
    memory.drop("70")
    assert "70" not in [key for key, *_ in memory.containing(query(0))]
    assert memory.containing(query(1)) == []
    memory.put("99", query(), make_answer())
    assert "99" not in [key for key, *_ in memory.containing(query(0))]


def test_parts_of_a_region_do_not_displace_it():
    memory = MemoryTier(1 << 22)
    memory.put("whole", query(0), make_answer())
    for number in range(100):
        memory.put(str(number), query(0), make_answer(), is_part=True)
    assert [key for key, *_ in memory.containing(query(0))] == ["whole"]
    memory.put("whole", query(0), make_answer())
    memory.clear()
    assert memory.containing(query(0)) == []


@pytest.mark.skipif(IS_PANDAS_2, reason="pandas 2 has no Copy-on-Write: frames are copies")
@pytest.mark.parametrize("columns", [1, 6])
def test_the_memory_of_small_answers_is_within_what_is_counted(columns):
    """Most of it is the frame that hits share; counted without it, a full cache took ten times its limit."""
    kinds = tuple(Column(f"x{n}", Kind.FLOAT) for n in range(columns))

    def answer():
        result = Answer(pa.table({column.name: [0.0] * 30 for column in kinds}), kinds, "v")
        result.frame()
        return result

    answer()
    gc.collect()
    tracemalloc.start()
    try:
        answers = [answer() for _ in range(200)]
        gc.collect()
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    counted = sum(each.nbytes for each in answers)
    assert counted / 8 < taken < counted
