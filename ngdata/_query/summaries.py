"""Summaries of a level: a row per group of tokens, and a sample that any machine draws again."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import pandas as pd

from ngdata._arguments.levels import Level, level_index
from ngdata._arguments.numbers import as_float, whole
from ngdata._arguments.points import MAX_COORDINATE, Coordinates, Point, as_point
from ngdata._arguments.shown import guarded, shown
from ngdata._arguments.suggestions import did_you_mean
from ngdata._arguments.texts import as_text, plain_text
from ngdata._query import literals as sql
from ngdata._query.asked import Asked
from ngdata._query.attributes import IndexRows
from ngdata._query.filters import TokenFilter, where_clause
from ngdata._query.footprints import Footprint
from ngdata._query.grouping import Keys, by_code_points, with_group
from ngdata._query.model import FEW_ROWS, LEVELS, Column, Kind, Query, choose, select_list
from ngdata._query.places import Place
from ngdata._query.regions import selected_columns
from ngdata._query.wire_format import compact
from ngdata.errors import InvalidQueryError
from ngdata.regions.algebra import EVERYWHERE

__all__ = ["OPTIONS", "Aggregation", "Cell", "aggregate", "draw", "sample"]

Aggregation: TypeAlias = "str | tuple[str, str]"
"""A column of a summary as an argument: ``"count"``, or ``(column, function)``."""

Cell: TypeAlias = "float | Coordinates"
"""The edge lengths of a grid's cells as an argument: one number, or one for each axis."""

OPTIONS: Final = (
    *("by", "level", "within", "cell", "token_type", "where", "flags", "min_weight"),
    *("max_rows", "cache"),
)
"""The parameters of `aggregate`, which no column of the summary can be named after."""

# The smallest cell: the number of one is finite, whatever the coordinate.
_MIN_CELL: Final = 1e-200

# Decimals that are 0 as float64, and those beyond its largest number.
_LEAST: Final = "2.5e-324"
_MOST: Final = "1.7976931348623158e308"

# Without the sum, -0.0 or 0.0 would stand for both, whichever comes first.
_SIGNLESS_ZERO: Final = f" + {sql.float8(0.0)}"

_AXES: Final = {Column(axis, Kind.FLOAT): f"ST_{axis.upper()}(geom)" for axis in "xyz"}

_COLUMNS: Final = {
    Column("token_type", Kind.TEXT): "token_type",
    Column("weight", Kind.FLOAT): "weight",
    Column("flags", Kind.INTEGER): "flags",
    Column("timestamp", Kind.TIME): '"timestamp"',
    **_AXES,
    Column("created_at", Kind.TIME): "created_at",
    Column("updated_at", Kind.TIME): "updated_at",
}

_KEYS: Final = {
    column: expression + (_SIGNLESS_ZERO if column.kind is Kind.FLOAT else "")
    for column, expression in _COLUMNS.items()
}

_OF_ANY: Final = ("count", "nunique", "min", "max")
_OF_NUMBERS: Final = (*_OF_ANY, "sum", "mean", "median", "std", "var")
_NUMBERS: Final = (Kind.FLOAT, Kind.INTEGER)

_COUNT: Final = "count"
_CELL: Final = "cell_numbers"

# With the table's name: the selected column of that name is text.
_ROW: Final = "spatial_index.token_id"


@dataclass(frozen=True, slots=True)
class _Grid:
    """A grid whose cells have corners at multiples of their edge lengths."""

    sizes: Point

    def cell(self) -> str:
        """Write the numbers of a token's cell on the axes, ``floor(x / size)`` as NumPy has them.

        PostgreSQL refuses a quotient too small for float64, where NumPy has 0.
        """
        cells = []
        for expression, size in zip(_AXES.values(), self.sizes, strict=True):
            cell = f"floor({expression} / {sql.float8(size)})"
            if size >= 2:
                # A quotient of at most half of the smallest number is 0.
                bound = math.ldexp(math.floor(size / 2), -1074)
                zero = f"abs({expression}) <= {sql.float8(bound)}"
                cell = f"CASE WHEN {zero} THEN {sql.float8(0.0)} ELSE {cell} END"
            cells.append(cell)
        return f"ARRAY[{', '.join(cells)}]"

    def centres(self) -> list[str]:
        """Write the items of the SELECT list: the centres of the cells."""
        return [
            f'({_CELL}[{place}] + {sql.float8(0.5)}) * {sql.float8(size)} AS "{axis.name}"'
            for place, (axis, size) in enumerate(zip(_AXES, self.sizes, strict=True), 1)
        ]


def aggregate(
    by: str | Sequence[str] | None,
    level: Level,
    within: Place | None,
    cell: Cell | None,
    where: TokenFilter,
    named: Mapping[str, Aggregation],
) -> Query:
    """Read a row per group of a level's tokens: its keys, the centre of its cell, and its statistics.

    Without keys and cells, all tokens are one group, which is there even if it has no tokens.
    """
    level_number = level_index(level)
    keys = Keys.of(by, _KEYS, "metadata")
    grid = None if cell is None else _Grid(_sizes(cell, "cell"))
    columns = list(keys.expressions)
    if grid is not None:
        for column in columns:
            if column in _AXES:
                raise InvalidQueryError(
                    f"by must not name {column.name!r} if there is a cell, whose centre has that "
                    "name; leave one of the two out"
                )
        columns += _AXES
    is_one_group = not columns
    statistics = [
        _statistic(value, _plain(name), is_one_group) for name, value in named.items()
    ] or [_Statistic(Column(_COUNT, Kind.INTEGER), "count(*)")]
    key_names = {column.name for column in columns}
    for statistic in statistics:
        if statistic.column.name in key_names:
            raise InvalidQueryError(
                f"{statistic.column.name} is the name of a key of the groups; name the column "
                "otherwise"
            )
    read = [statistic.of for statistic in statistics if statistic.of is not None]
    source = IndexRows.of(where, [*columns, *read])
    select = [*keys.select(), *(grid.centres() if grid else [])]
    select += [f"{each.sql} AS {sql.identifier(each.column.name)}" for each in statistics]
    conditions = [*source.conditions_on(level_number, within), *keys.conditions()]
    rows = f"{source.sql}{where_clause(conditions)}"
    if grid is not None:
        rows = with_group(rows, grid.cell(), _CELL, "tokens")
    statement = (
        f"SELECT {', '.join(select)} FROM {rows}{keys.clauses(last=[_CELL] if grid else ())}"
    )
    return Query(
        statement,
        (*columns, *(statistic.column for statistic in statistics)),
        (*source.relations, LEVELS),
        has_limit=False,
        is_small=is_one_group,
        level=level_number,
        asked=Asked.tokens(level_number, within, where),
        footprint=Footprint(place=within or Place(EVERYWHERE, level_number)),
    )


@guarded
def _sizes(value: Any, name: str) -> Point:
    """Check the edge lengths of cells."""
    number = as_float(value)
    try:
        sizes = as_point((number,) * 3 if number is not None else value, name)
    except InvalidQueryError:
        sizes = (0.0, 0.0, 0.0)
    if min(sizes) < _MIN_CELL:
        raise InvalidQueryError(
            f"{name} must be a number from {_MIN_CELL:g} to {MAX_COORDINATE:g}, or one for each "
            f"axis, not {shown(value)}"
        )
    return sizes


@dataclass(frozen=True, slots=True)
class _Statistic:
    """A column of a summary, its SQL expression, and the column of tokens that it is of."""

    column: Column
    sql: str
    of: Column | None = None


def _plain(name: str) -> str:
    """Return the name of a keyword, which may be any text, as `str`."""
    return as_text(plain_text(name), "the name of a column")


@guarded
def _statistic(value: Any, name: str, is_one_group: bool) -> _Statistic:
    """Check a column of a summary; the one group of all may have no tokens."""
    if plain_text(value) == _COUNT:
        return _Statistic(Column(name, Kind.INTEGER), "count(*)")
    pair = _pair(value)
    if pair is None:
        raise InvalidQueryError(
            f"{name} must be 'count', the number of tokens, or (column, function), such as "
            f"('weight', 'max'), not {shown(value)}"
            + (did_you_mean(name, OPTIONS) or did_you_mean(plain_text(value), [_COUNT]))
        )
    of, function = pair
    [(column, expression)] = choose(_COLUMNS, [of], metadata="metadata", name=name).items()
    functions = _OF_NUMBERS if column.kind in _NUMBERS else _OF_ANY
    if function not in functions:
        raise InvalidQueryError(
            f"unknown function {shown(function)} of {column.name} in {name}; its functions are "
            f"{', '.join(functions)}{did_you_mean(function, functions)}"
        )
    kind = _kind(column.kind, function, is_one_group)
    return _Statistic(Column(name, kind), _function(column.kind, expression, function), column)


def _pair(value: Any) -> tuple[str, str] | None:
    """Return a pair of texts; None for anything else."""
    if isinstance(value, pd.NamedAgg):
        # From pandas 3 on, it is not a tuple, and may have arguments for the function.
        if getattr(value, "args", ()) or getattr(value, "kwargs", {}):
            return None
        value = (value.column, value.aggfunc)
    if not isinstance(value, tuple | list) or len(value) != 2:
        return None
    first, second = map(plain_text, value)
    return None if first is None or second is None else (first, second)


def _kind(kind: Kind, function: str, is_one_group: bool) -> Kind:
    """Return what a function of a column becomes in pandas."""
    if function in ("count", "nunique"):
        return Kind.INTEGER
    if function in ("min", "max"):
        is_optional = kind is Kind.INTEGER and is_one_group
        return Kind.OPTIONAL_INTEGER if is_optional else kind
    return Kind.INTEGER if function == "sum" and kind is Kind.INTEGER else Kind.FLOAT


def _function(kind: Kind, value: str, function: str) -> str:
    """Write a function of a column's values in a group.

    Floats are summed up as decimals, without rounding: so a sum is the same in whatever order, or by
    however many processes, the server reads the rows.  To sum floats in the order of ids would take
    four times as long.
    """
    if function in ("min", "max"):
        value = by_code_points(value) if kind is Kind.TEXT else value
        return f"{function}({value})" + (_SIGNLESS_ZERO if kind is Kind.FLOAT else "")
    if function == "count":
        return f"count({value})"
    if function == "nunique":
        return f"count(DISTINCT {value})"
    if function == "median":
        return _median(f"{value}::float8")
    exact = f"{value}::text::numeric" if kind is Kind.FLOAT else value
    if function == "mean":
        return _mean(f"sum({exact})::numeric", f"count({value})")
    if function in ("std", "var"):
        # The root of stddev_samp may have no more decimals than the variance.
        variance = f"var_samp({exact})"
        return _rounded(f"sqrt({variance})" if function == "std" else variance)
    total = f"coalesce(sum({exact}), 0)"
    return _rounded(total) if kind is Kind.FLOAT else total


def _rounded(decimal: str) -> str:
    """Write a decimal as float64, as Python rounds it; PostgreSQL refuses very small and large ones."""
    return (
        f"CASE WHEN abs({decimal}) < {_LEAST} THEN {sql.float8(0.0)}"
        f" WHEN {decimal} > {_MOST} THEN {sql.float8(math.inf)}"
        f" WHEN {decimal} < -{_MOST} THEN {sql.float8(-math.inf)} ELSE {decimal}::float8 END"
    )


def _mean(total: str, count: str) -> str:
    """Write a mean: a quotient of floats, as in pandas, unless one of them is out of range."""
    return (
        f"CASE WHEN abs({total}) BETWEEN 1e-290 AND 1e308 THEN {total}::float8 / {count}"
        f" ELSE {_rounded(f'({total} / {count})')} END"
    )


def _median(number: str) -> str:
    """Write a median: half of the sum of the two values in the middle, bit for bit as in pandas.

    The second one is the first value beyond a half of the group.  Of large values, halves are added:
    their sum may be out of range.
    """
    shares = sql.float8_array([0.5, math.nextafter(0.5, 1)])
    middle = f"(percentile_disc({shares}) WITHIN GROUP (ORDER BY {number}))"
    first, second = f"{middle}[1]", f"{middle}[2]"
    return (
        f"CASE WHEN {first} = {second} THEN {first}{_SIGNLESS_ZERO}"
        f" WHEN abs({first}) > 1 AND abs({second}) > 1 THEN {first} / 2 + {second} / 2"
        f" WHEN abs({first} + {second}) <= {sql.float8(5e-324)} THEN {sql.float8(0.0)}"
        f" ELSE ({first} + {second}) / 2 END"
    )


def sample(
    n: int,
    level: Level,
    within: Place | None,
    seed: int,
    where: TokenFilter,
    columns: Sequence[str] | None = None,
) -> Query:
    """Read the n tokens of a level with the least hashes of seed and id, by hash, then id.

    The hash is SHA-256 of the seed's 8 bytes, big-endian, and the id's 16.
    """
    count = whole(n, "n", 0, 2**31 - 1)
    seed = whole(seed, "seed", -(2**63), 2**63 - 1)
    hashed = f"sha256(int8send({sql.integer(seed)}) || uuid_send({_ROW}))"
    asked = None if count == 0 else Asked.tokens(level_index(level), within, where)
    return _least(count, level_index(level), within, where, columns, hashed, (), asked)


def draw(
    n: int,
    level: int,
    within: Place | None,
    where: TokenFilter,
    columns: Sequence[str],
    share: float = 1.0,
    *,
    by_index: bool = True,
) -> Query:
    """Read the n tokens of a level with the least hashes, if about this share of all has n.

    As in `sample`, a smaller draw lies in a larger one, also in one of another region.  The hash costs
    a tenth of SHA-256, but is only promised to be the same on one server.  With a small share, few
    tokens are sorted, and of the others nothing is computed but the hash.  So a large region is then
    read quicker without the spatial index (`by_index`), which visits rows one by one.
    """
    hashed = f"uuid_hash_extended({_ROW}, 0)"
    if share >= 1:
        asked = Asked.tokens(level, within, where)
        return _least(n, level, within, where, columns, hashed, (), asked)
    if within is not None and not by_index:
        within = within.beside_index()
    bound = sql.integer(int(share * 2**64) - 2**63)
    return _least(n, level, within, where, columns, hashed, (f"{hashed} < {bound}",), None)


def _least(
    count: int,
    level: int,
    within: Place | None,
    where: TokenFilter,
    columns: Sequence[str] | None,
    hashed: str,
    conditions: Sequence[str],
    asked: Asked | None,
) -> Query:
    """Read the tokens with the least values of an expression, by it and by id."""
    selected = selected_columns(columns)
    rows = IndexRows.of(where)
    order = f"ORDER BY {hashed}, {_ROW}"
    # Cheaper conditions come first.
    kept = [*conditions, *rows.conditions_on(level, within)]
    # The tokens are drawn before further attributes are read, which only they need.
    drawn = f"SELECT * FROM {rows.sql}{where_clause(kept)} {order} LIMIT {sql.integer(count)}"
    source = IndexRows.of(where, selected)
    is_small = count <= FEW_ROWS
    select, sent = compact(selected, level, is_small=is_small)
    end = f"FROM {source.beside(drawn)} {order}"
    return Query(
        f"SELECT {select} {end}",
        tuple(selected),
        (*source.relations, LEVELS),
        has_limit=False,
        sent=sent,
        plain_sql=f"SELECT {select_list(selected)} {end}" if sent else None,
        is_small=is_small,
        level=level,
        asked=asked,
        footprint=Footprint(place=within or Place(EVERYWHERE, level)),
    )
