"""Filters of any numeric and text type: what the cache returns is what pandas and the server return.

NumPy compares a Python float with a float32 in float32, so a filter that is kept as it was passed may
equal another one that keeps other rows.
"""

import enum
import itertools
import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ngdata
from ngdata._query.events import EventFilter
from ngdata._query.filters import TokenFilter
from ngdata._query.partitions import PartCount
from ngdata._query.places import Place
from ngdata.errors import InvalidQueryError
from tests.conftest import SCALE, empty

BOUNDS = [0.1, 0.3, 1 / 3, 0.5, 1.0, 2049.0, -0.1]
KINDS = ["soma", "axon", "dendrite"]


def neighborhood(value):
    """Return the numbers that other types make of one, and those next to it."""
    near = {value, float(np.float32(value)), float(np.float16(value))}
    return near | {math.nextafter(v, w) for v in near for w in (-math.inf, math.inf)}


class Kind(enum.StrEnum):
    soma = "soma"
    axon = "axon"


class Bit(enum.IntFlag):
    first = 1
    second = 2


class LyingNumber(float):
    """A number that says to equal every other."""

    def __eq__(self, other):
        return True

    def __ne__(self, other):
        return False

    def __ge__(self, other):
        return True

    __hash__ = float.__hash__


class LyingText(str):
    def __eq__(self, other):
        return True

    def __hash__(self):
        return hash("soma")


NUMBERS = [float, np.float64, np.float32, np.float16, np.longdouble, Decimal, Fraction, LyingNumber]
# Python's float, compared with NumPy's smaller ones, is the case to find.
WIDE, NARROW = [float] * 4 + NUMBERS, [np.float32, np.float16] * 4 + NUMBERS
INTEGERS = [int, np.int64, np.int32, np.uint8, Bit]
TEXTS = [str, np.str_, LyingText, lambda text: getattr(Kind, text, text)]
SEQUENCES = [list, tuple, set, np.array, pd.Series, pd.Index, iter, lambda texts: texts[0]]


@pytest.fixture(scope="module")
def store(server):
    empty(server.database_url)
    rng = np.random.default_rng(7)
    values = sorted({v for bound in BOUNDS for v in neighborhood(bound) if math.isfinite(v)})
    frame = pd.DataFrame(rng.choice(values, (600, 3)), columns=list("xyz"))
    frame["weight"] = rng.choice(values, 600)
    frame["token_type"] = rng.choice(KINDS, 600)
    frame["flags"] = rng.choice([0, 1, 2, 3], 600)
    with ngdata.connect(server.database_url) as client:
        frame["token_id"] = client.tokens.bulk_create(frame)
        yield client, frame
    empty(server.database_url)


@st.composite
def pairs(draw):
    """Return a region of all places and one inside it, with the same filters as other types.

    Each is its corners, its options, and the same as plain values.
    """
    bound = draw(st.sampled_from([None, *BOUNDS]))
    bits = draw(st.none() | st.sampled_from([0, 1, 2, 3]))
    texts = draw(st.none() | st.lists(st.sampled_from(KINDS), min_size=1, max_size=2, unique=True))
    sides = [sorted(draw(st.tuples(*[st.sampled_from(BOUNDS)] * 2))) for _ in "xyz"]
    low, high = zip(*sides, strict=True)
    as_corner = draw(st.sampled_from([tuple, list, np.array, lambda p: np.array(p, np.float32)]))
    everywhere = (-math.inf,) * 3, (math.inf,) * 3
    return [
        draw(region(everywhere, WIDE, bound, bits, texts)),
        draw(region((as_corner(low), as_corner(high)), NARROW, bound, bits, texts)),
    ]


@st.composite
def region(draw, corners, number_types, bound, bits, texts):
    options, plain = {}, {}
    plain["low"], plain["high"] = ([float(v) for v in corner] for corner in corners)
    if bound is not None:
        options["min_weight"] = draw(st.sampled_from(number_types))(bound)
        plain["min_weight"] = float(options["min_weight"])
    if bits is not None:
        options["flags"] = draw(st.sampled_from(INTEGERS))(bits)
        plain["flags"] = bits
    if texts is not None:
        as_sequence, as_text = draw(st.sampled_from(SEQUENCES)), draw(st.sampled_from(TEXTS))
        plain["token_type"] = texts[:1] if as_sequence is SEQUENCES[-1] else texts
        # A set or an index of texts that equal each other may hold only one.
        if as_text is LyingText and as_sequence in (set, pd.Series, pd.Index, np.array):
            as_sequence = list
        options["token_type"] = lambda: as_sequence([as_text(text) for text in texts])
    return corners, options, plain


def expected(frame, plain):
    inside = np.ones(len(frame), bool)
    for axis, low, high in zip("xyz", plain["low"], plain["high"], strict=True):
        inside &= (frame[axis] >= low) & (frame[axis] <= high)
    if "min_weight" in plain:
        inside &= frame.weight >= plain["min_weight"]
    if "flags" in plain:
        inside &= frame["flags"] & plain["flags"] == plain["flags"]
    if "token_type" in plain:
        inside &= frame.token_type.isin(plain["token_type"])
    return set(frame.token_id[inside])


@settings(max_examples=100 * SCALE)
@given(pairs())
def test_a_filter_of_any_type_selects_the_rows_of_its_value(store, drawn):
    client, frame = store
    # Else the inner region may be cut out of that of an earlier example.
    client.cache.clear()
    for (low, high), options, plain in drawn:
        wanted = expected(frame, plain)
        for cache in ("strict", "off"):
            # An iterator is used up by one read.
            called = {k: v() if k == "token_type" else v for k, v in options.items()}
            rows = client.tokens.find_in_region(low, high, cache=cache, **called)
            assert set(rows.token_id) == wanted, (cache, options, plain)


def test_the_cache_is_used(store):
    client, _ = store
    wide, narrow = ((-1, -1, -1), (2, 2, 2)), ((0, 0, 0), (2, 2, 2))
    client.tokens.find_in_region(*wide, min_weight=0.1)
    frame = client.tokens.find_in_region(*narrow, min_weight=np.float64(0.1))
    assert frame.attrs["ngdata"]["source"] == "region"
    assert (frame.weight >= 0.1).all()
    # As a float32, 0.1 is a little larger.
    frame = client.tokens.find_in_region(*narrow, min_weight=np.float32(0.1))
    assert (frame.weight >= float(np.float32(0.1))).all()


def plain_types(value):
    """Return the types of a value and of everything in it."""
    if isinstance(value, tuple | list | frozenset):
        return {type(value)}.union(*map(plain_types, value))
    return {type(value)}


def test_filters_hold_plain_values():
    """Nothing behind them compares, hashes or keeps what a caller passed."""
    plain = {bool, int, float, str, tuple, list, frozenset, type(None)}
    for number, integer, text, sequence in itertools.product(NUMBERS, INTEGERS, TEXTS, SEQUENCES):
        where = {text("a"): [number(0.5), integer(2)]}
        where = None if number in (Decimal, Fraction) else where
        tokens = TokenFilter(sequence([text("soma")]), where, integer(2), number(0.5))
        assert (
            plain_types([tokens.token_type, tokens.where, tokens.flags, tokens.min_weight]) <= plain
        )
        assert plain_types(tokens.types()) <= plain
        events = EventFilter(
            pd.Timestamp(1, tz="UTC"), np.int64(5), event_type=sequence([text("soma")])
        )
        assert plain_types(events.event_type) <= plain
        assert {type(events.start).__name__, type(events.end).__name__} == {"datetime"}
    box = Place.of(
        np.float32([0, 0, 0]), [Decimal(1), Fraction(3, 2), np.int8(1)], np.str_("motor")
    )
    assert plain_types([*box.corners, box.level]) <= plain
    assert type(PartCount(np.int64(4)).npartitions) is int


def test_an_iterator_of_types_is_read_once(store):
    client, frame = store
    a, b = frame.token_id[:2]
    connection = client.graph.create_connection(a, b, "spatial")
    for kinds in (["spatial"], iter(["spatial"])):
        path = client.graph.shortest_path(a, b, connection_type=kinds, weighted=True)
        assert path.connection_id.tolist() == [connection]


def test_a_table_is_no_sequence_of_types(store):
    client, frame = store
    for table in (frame, {"token_type": ["soma"]}):
        with pytest.raises(InvalidQueryError, match="token_type must be text or a sequence"):
            client.tokens.find_in_region((0, 0, 0), (1, 1, 1), token_type=table)
