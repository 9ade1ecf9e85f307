"""Colours of columns: stable while samples come, and what the legend says."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ngdata._arguments.palette import GREY, PALETTE, SCALE, packed
from ngdata._arguments.texts import STR
from ngdata._client.view.coloring import Bar, coloring_of
from ngdata._client.view.texts import legend_html
from ngdata.errors import InvalidQueryError


def test_categories_are_coloured_by_frequency_and_keep_their_colours():
    values = pd.Series(["b", "a", "a", None, "c", "a", "c"], dtype=STR)
    coloring = coloring_of(values, "token_type")
    first = dict(zip(values, coloring.colors(values, 7).tolist(), strict=True))
    assert [first[name] for name in "acb"] == [packed(color) for color in PALETTE[:3]]
    assert coloring.entries == [*zip(PALETTE, "acb", strict=False), (GREY, "missing")]
    later = pd.Series(["d", "b", "b", "b"], dtype=STR)
    assert coloring.colors(later, 4).tolist() == [packed(PALETTE[3]), *[first["b"]] * 3]
    assert ("d" in dict(coloring.entries).values()) is True


def test_rare_categories_are_grey():
    values = pd.Series([f"t{n}" for n in range(12) for _ in range(20 - n)], dtype=STR)
    coloring = coloring_of(values, "token_type")
    colors = coloring.colors(values, len(values))
    assert set(colors[values.isin(["t10", "t11"])].tolist()) == {packed(GREY)}
    assert coloring.entries[-1] == (GREY, "others")
    assert len(coloring.entries) == len(PALETTE) + 1


def test_numbers_have_a_bar_whose_ends_say_what_is_beyond():
    bar = coloring_of(pd.Series([1.0, 3.0, np.nan]), "weight")
    assert isinstance(bar, Bar)
    assert bar.ends == ("1", "3")
    colors = bar.colors(pd.Series([1.0, 3.0, np.inf, 9.0]), 4)
    assert colors.tolist() == [packed(SCALE[0]), packed(SCALE[-1]), packed(GREY), packed(SCALE[-1])]
    assert bar.ends == ("1", "≥ 3")
    assert bar.entries == [(GREY, "missing or infinite")]
    one = coloring_of(pd.Series([5.0]), "weight")
    assert one.colors(pd.Series([5.0]), 1).tolist() != [packed(GREY)]


def test_times_and_texts_of_numbers_have_bars():
    times = pd.Series(pd.to_datetime(["2026-01-01", None, "2026-01-03"], utc=True))
    bar = coloring_of(times, "timestamp")
    assert bar.ends == ("2026-01-01 00:00:00", "2026-01-03 00:00:00")
    assert bar.colors(times, 3)[1] == packed(GREY)
    old = pd.Series(np.array(["1500-01-01", "2300-01-03"], "M8[us]")).dt.tz_localize("UTC")
    assert coloring_of(old, "timestamp").ends == ("1500-01-01 00:00:00", "2300-01-03 00:00:00")
    texts = pd.Series([str(n / 2) for n in range(30)], dtype=STR)
    assert coloring_of(texts, "metadata.radius").ends == ("0", "14.5")


def test_one_colour_has_no_legend():
    coloring = coloring_of(None, None)
    assert set(coloring.colors(None, 3).tolist()) == {packed(PALETTE[0])}
    assert legend_html(coloring) == ""


def test_other_values_are_refused():
    with pytest.raises(InvalidQueryError, match=r"metadata\.KEY"):
        coloring_of(pd.Series([{"a": 1}, None]), "metadata")


def test_legends_escape_what_they_show():
    values = pd.Series(["<script>alert(1)</script>"] * 3, dtype=STR)
    coloring = coloring_of(values, "metadata.<b>")
    coloring.colors(values, 3)
    assert "<script" not in legend_html(coloring)
    assert "metadata.&lt;b&gt;" in legend_html(coloring)
