"""The algebra of regions: `Region`, its operators, and what they make of shapes.

A region is a tree: shapes, complements of shapes, and unions and intersections of any number of
parts.  It is kept in one canonical form, so that equal texts are equal values: complements stand at
the shapes (De Morgan), a union holds no union, an intersection no intersection, and the parts of
both are sorted and different.
"""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any, ClassVar, Final, NoReturn, Self, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from ngdata._arguments.levels import LEVELS, Level, level_index
from ngdata._arguments.points import Coordinates, Point, as_point, three
from ngdata.errors import InvalidQueryError
from ngdata.regions.arrays import Cells, Places, as_array, places_of
from ngdata.regions.corners import (
    INFINITE,
    Corners,
    common,
    corner,
    is_finite,
    joined,
    moved,
    plain,
    point_text,
    widened,
)
from ngdata.regions.drawing import as_html
from ngdata.regions.plain_data import COMPLEMENT, region_from

__all__ = [
    "EVERYWHERE",
    "NOWHERE",
    "Box",
    "Complement",
    "Intersection",
    "Region",
    "Shape",
    "Union",
    "same_level",
]

Key: TypeAlias = tuple[Any, ...]

# The text of a region of more comparisons would fill pages.
_MAX_COST_OF_TEXT: Final = 50

# Deeper regions would exhaust the interpreter's stack, and larger ones the server's.
_MAX_DEPTH: Final = 50
_MAX_SHAPES: Final = 10_000

# Only their order matters: that of the parts of a canonical form.
_RANK_OF_COMPLEMENT: Final = 7
_RANK_OF_INTERSECTION: Final = 8
_RANK_OF_UNION: Final = 9


class Region(ABC):
    """A set of points of 3D space, made of shapes by ``|``, ``&``, ``-``, ``^`` and ``~``.

    A region is a value: it never changes, equal regions have equal hashes, ``eval(repr(r)) == r``,
    and it can be pickled.  It is taken wherever a box is: ``find_in_region(region)``,
    ``within=region``.

    Membership is a formula in float64, never an approximation, and the server evaluates the same
    formula: shapes are closed, so ``a - b`` keeps the boundary of `a` and loses that of `b`.  A
    token that is undefined on a level is in no part on that level, nor in the complement of one.

    Examples
    --------
    >>> from ngdata import Box, Sphere
    >>> shell = Sphere((0, 0, 0), 2.0) - Sphere((0, 0, 0), 1.0)
    >>> shell.contains([(0, 0, 0), (0, 0, 1), (0, 0, 1.5), (0, 0, 2)]).tolist()
    [False, False, True, True]
    """

    __module__ = "ngdata.regions"

    @property
    @abstractmethod
    def _key(self) -> Key:
        """What equals and orders regions: all values of the canonical form."""

    @property
    @abstractmethod
    def _levels(self) -> frozenset[int | None]:
        """The levels of the parts; None is that of the read."""

    @property
    @abstractmethod
    def _cost(self) -> int:
        """About how many comparisons of a box's size the exact formula takes."""

    @property
    def _depth(self) -> int:
        """How many unions and intersections are in each other."""
        return 0

    @property
    def _shape_count(self) -> int:
        return 1

    @abstractmethod
    def _mask(self, places: Callable[[int | None], Places]) -> np.ndarray:
        """Return which points are inside; `places` returns those of a level."""

    @abstractmethod
    def _classify(self, cells: Cells, level: int | None) -> tuple[np.ndarray, np.ndarray]:
        """Return which cells hold only points of the region, and which hold none.

        Only the parts on `level` are known; for a cell that may be either, both are False.
        """

    @abstractmethod
    def _corners(self, level: int | None) -> list[Corners]:
        """Return boxes that hold all points of the region on a level together."""

    @abstractmethod
    def _each(self, change: Callable[[Shape], Shape]) -> Region:
        """Return the same formula of changed shapes."""

    @abstractmethod
    def __invert__(self) -> Region: ...

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return the region as plain data, which JSON can hold; `Region.from_dict` reads it.

        Examples
        --------
        >>> from ngdata import Sphere
        >>> Sphere((0, 0, 0), 2.0).to_dict()
        {'type': 'Sphere', 'center': [0.0, 0.0, 0.0], 'radius': 2.0}
        """

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Region:
        """Return the region that `to_dict` wrote.

        Raises
        ------
        InvalidQueryError
            It is not what `to_dict` writes.

        Examples
        --------
        >>> from ngdata import Region, Sphere
        >>> Region.from_dict({"type": "Sphere", "center": [0, 0, 0], "radius": 2})
        Sphere((0.0, 0.0, 0.0), 2.0)
        """
        makers = {name: (shape, shape._names) for name, shape in _SHAPES.items()}
        return region_from(data, "data", makers, _COMPOUNDS)

    def __or__(self, other: object) -> Region:
        if not isinstance(other, Region):
            return NotImplemented
        return Union.of((self, other))

    def __and__(self, other: object) -> Region:
        if not isinstance(other, Region):
            return NotImplemented
        return Intersection.of((self, other))

    def __sub__(self, other: object) -> Region:
        if not isinstance(other, Region):
            return NotImplemented
        return self & ~other

    def __xor__(self, other: object) -> Region:
        if not isinstance(other, Region):
            return NotImplemented
        return (self & ~other) | (other & ~self)

    def __bool__(self) -> NoReturn:
        raise TypeError(
            "a region is neither true nor false; combine regions by &, |, - and ~ (not by and, or, "
            "not), and compare one with NOWHERE to see whether it is written as empty"
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Region):
            return NotImplemented
        return self is other or (self._hash == other._hash and self._key == other._key)

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash(self._key)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a region never changes; make another one instead of setting {name}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a region never changes; {name} cannot be deleted")

    def _set(self, **values: Any) -> None:
        # As cached_property does, past __setattr__.
        self.__dict__.update(values)

    def on(self, level: Level) -> Region:
        """Return the region with its parts bound to a level, except those that are bound already.

        Parameters
        ----------
        level : int or str

        Returns
        -------
        Region
            The rows of a read show the read's own level, whatever the parts are bound to.

        Examples
        --------
        >>> from ngdata import Box, Sphere
        >>> Box((0, 0, 0), (9, 9, 9)) & Sphere((0, 0, 0), 2.0).on("motor")
        Box((0.0, 0.0, 0.0), (9.0, 9.0, 9.0)) & Sphere((0.0, 0.0, 0.0), 2.0).on('motor')
        """
        number = level_index(level)
        return self._each(lambda shape: shape if shape.level is not None else shape._bound(number))

    def moved(self, by: Coordinates) -> Region:
        """Return the region moved by (dx, dy, dz), all of its parts on all levels.

        Examples
        --------
        >>> from ngdata import Sphere
        >>> Sphere((0, 0, 0), 2.0).moved((1, 2, 3))
        Sphere((1.0, 2.0, 3.0), 2.0)
        """
        step = as_point(by, "by")
        return self._each(lambda shape: shape._moved(step)._bound(shape.level))

    @cached_property
    def bounds(self) -> Region:
        """A box that holds the region; its sides may be infinite.

        Of ``&`` it is the common part of the boxes, of ``|`` the box around all.  It is `NOWHERE` if no point can be inside.  Of parts on several
        levels, only those on the read's level count.
        """
        level = next(iter(self._levels)) if len(self._levels) == 1 else None
        return _box(joined(self._corners(level)), level)

    def contains(self, points: ArrayLike | pd.DataFrame, level: Level = 0) -> np.ndarray:
        """Return which points are inside, exactly as the server decides it.

        Parameters
        ----------
        points : array_like of shape (..., 3) or frame with x, y, z
            If a part is bound to a level: the coordinates of tokens on all levels, of shape
            (..., 8, 3), as ``coords`` of `Tokens.get` holds them, NaN where undefined.
        level : int or str
            The level of the parts that are bound to none, for coordinates on all levels.

        Returns
        -------
        numpy.ndarray
            bool, of shape (...).  A point that is not finite is in nothing, and in no complement.

        Examples
        --------
        >>> from ngdata import Box
        >>> Box((0, 0, 0), (1, 1, 1)).contains([(0, 0, 1), (0, 0, 1.5)]).tolist()
        [True, False]
        """
        array, number = as_array(points, "points"), level_index(level)
        if self._levels == {None}:
            if array.ndim < 1 or array.shape[-1] != 3:
                raise InvalidQueryError(
                    f"points must be an array of shape (..., 3), not of shape {array.shape}"
                )
            array = array[..., None, :]
            number = 0
        elif array.ndim < 2 or array.shape[-2:] != (len(LEVELS), 3):
            raise InvalidQueryError(
                "this region has parts on levels of their own, so points must be coordinates on all "
                f"levels, an array of shape (..., 8, 3), not of shape {array.shape}"
            )
        at = functools.cache(lambda own: places_of(array, number if own is None else own))
        # Infinities and NaN are points too, of no region.
        with np.errstate(all="ignore"):
            return self._mask(at)

    def __contains__(self, point: object) -> bool:
        array = as_array(point, "point")
        if array.shape not in ((3,), (len(LEVELS), 3)):
            raise InvalidQueryError(
                f"`in` takes one point, and this has the shape {array.shape}; use .contains(points)"
            )
        return bool(self.contains(array))

    def __reduce__(self) -> tuple[Any, ...]:
        return Region.from_dict, (self.to_dict(),)

    def _repr_html_(self) -> str:
        text = repr(self) if self._cost < _MAX_COST_OF_TEXT else f"{type(self).__name__}(...)"
        # Parts on all levels are drawn into the same picture.
        one_level = self._each(lambda shape: shape._bound(None))
        corners = one_level._finite_corners(None)
        if corners is not None and corners != joined(one_level._corners(None)):
            # Of a region without end, a little more than its shapes.
            corners = widened(corners, 0.25)
        return as_html(text, one_level.contains, corners)

    def _finite_corners(self, level: int | None) -> Corners | None:
        """Return the box around the region or, if it has no end, around all shapes that have one."""
        around = joined(self._corners(level))
        if around is None or is_finite(around):
            return around
        finite: list[Corners] = []

        def note(shape: Shape) -> Shape:
            if same_level(shape.level, level) and is_finite(shape._extent):
                finite.append(shape._extent)
            return shape

        self._each(note)
        return joined(finite)


_SHAPES: Final[dict[str, type[Shape]]] = {}


class Shape(Region):
    """A closed shape, perhaps bound to a level.

    Attributes
    ----------
    level : int or None
        None: that of the read.
    """

    _rank: ClassVar[int]
    _names: ClassVar[tuple[str, ...]]
    level: int | None

    def __init_subclass__(cls) -> None:
        if "_names" in vars(cls):
            _SHAPES[cls.__name__] = cls

    @property
    @abstractmethod
    def _values(self) -> Key:
        """The values that it is made of, of one order of types for all of its class."""

    @abstractmethod
    def _arguments(self) -> str:
        """Return the arguments of the constructor as text."""

    @abstractmethod
    def _fields(self) -> dict[str, Any]:
        """Return the arguments of the constructor as plain data, by name."""

    @abstractmethod
    def _inside(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Return which of these points are inside."""

    @abstractmethod
    def _cells(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return which boxes are wholly inside, and which wholly outside, as `_inside` decides."""

    @property
    @abstractmethod
    def _extent(self) -> Corners:
        """A box that holds all points which `_inside` accepts."""

    @property
    def _outer_extent(self) -> Corners:
        """A box that holds all points which `_inside` does not accept."""
        return INFINITE

    @abstractmethod
    def _moved(self, by: Point) -> Shape:
        """Return it at another place, bound to no level."""

    def _bound(self, level: int | None) -> Self:
        if level == self.level:
            return self
        other = object.__new__(type(self))
        # What is computed of a shape does not depend on the level, but for these.
        kept = {name: value for name, value in self.__dict__.items() if name not in _OF_LEVEL}
        other._set(**kept, level=level)
        return other

    @cached_property
    def _key(self) -> Key:
        return (self._rank, -1 if self.level is None else self.level, *self._values)

    @property
    def _levels(self) -> frozenset[int | None]:
        return frozenset((self.level,))

    def _mask(self, places: Callable[[int | None], Places]) -> np.ndarray:
        x, y, z, is_defined = places(self.level)
        return np.asarray(is_defined & self._inside(x, y, z))

    def _classify(self, cells: Cells, level: int | None) -> tuple[np.ndarray, np.ndarray]:
        if not same_level(self.level, level):
            return _unknown(cells)
        with np.errstate(all="ignore"):
            return self._cells(*cells)

    def _corners(self, level: int | None) -> list[Corners]:
        return [self._extent if same_level(self.level, level) else INFINITE]

    def _each(self, change: Callable[[Shape], Shape]) -> Region:
        return change(self)

    def __invert__(self) -> Region:
        return Complement(self)

    def to_dict(self) -> dict[str, Any]:
        """Return the shape as plain data, which JSON can hold."""
        bound = {} if self.level is None else {"level": LEVELS[self.level]}
        return {"type": type(self).__name__, **self._fields(), **bound}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._arguments()}){self._on()}"

    def _on(self) -> str:
        return "" if self.level is None else f".on({LEVELS[self.level]!r})"


_OF_LEVEL: Final = frozenset(("_key", "_hash", "bounds", "level"))


class Box(Shape):
    """A closed box: ``min_coords <= p <= max_coords`` on all three axes.

    Parameters
    ----------
    min_coords, max_coords : array_like of shape (3,)
        Corners (x, y, z); an infinite coordinate leaves that side open.  A Series, a mapping or a
        one-row frame with the labels x, y and z may have any order.

    Raises
    ------
    InvalidQueryError
        Swapped corners, NaN.

    Examples
    --------
    >>> from ngdata import Box
    >>> Box((0, 0, 0), (2, 2, 2)) & Box((1, 1, 1), (3, 3, 3))
    Box((1.0, 1.0, 1.0), (2.0, 2.0, 2.0))
    """

    __module__ = "ngdata.regions"
    _rank = 0
    _names = ("min_coords", "max_coords")
    _cost = 1
    min_coords: Point
    max_coords: Point

    def __init__(self, min_coords: Coordinates, max_coords: Coordinates) -> None:
        low, high = plain(three(min_coords, "min_coords")), plain(three(max_coords, "max_coords"))
        for axis, a, b in zip("xyz", low, high, strict=True):
            if a > b:
                raise InvalidQueryError(
                    f"min_coords must not exceed max_coords, but {axis} runs from {a!r} to {b!r}; "
                    "are the two swapped?"
                )
        self._set(min_coords=low, max_coords=high, level=None)

    @property
    def is_everything(self) -> bool:
        """Whether every point is inside."""
        return (self.min_coords, self.max_coords) == INFINITE

    @property
    def _values(self) -> Key:
        return self.min_coords, self.max_coords

    def _arguments(self) -> str:
        return f"{point_text(self.min_coords)}, {point_text(self.max_coords)}"

    def __repr__(self) -> str:
        return f"EVERYWHERE{self._on()}" if self.is_everything else super().__repr__()

    def _fields(self) -> dict[str, Any]:
        # JSON has no infinity.
        corners = {"min_coords": self.min_coords, "max_coords": self.max_coords}
        return {
            name: [value if math.isfinite(value) else None for value in corner]
            for name, corner in corners.items()
        }

    def _inside(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        inside = np.ones(x.shape, bool)
        for values, low, high in zip((x, y, z), self.min_coords, self.max_coords, strict=True):
            if low != -math.inf:
                inside &= values >= low
            if high != math.inf:
                inside &= values <= high
        return inside

    def _cells(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        is_inside = (low >= self.min_coords) & (high <= self.max_coords)
        is_outside = (low > self.max_coords) | (high < self.min_coords)
        return np.asarray(is_inside.all(axis=1)), np.asarray(is_outside.any(axis=1))

    @property
    def _extent(self) -> Corners:
        return self.min_coords, self.max_coords

    @property
    def _outer_extent(self) -> Corners:
        """Of a box with one finite side, the other side of it."""
        sides = [(0, axis, v) for axis, v in enumerate(self.min_coords) if v != -math.inf]
        sides += [(1, axis, v) for axis, v in enumerate(self.max_coords) if v != math.inf]
        if len(sides) != 1:
            return INFINITE
        ((is_high, axis, value),) = sides
        corners = [[-math.inf] * 3, [math.inf] * 3]
        corners[1 - is_high][axis] = value
        return corner(corners[0]), corner(corners[1])

    def _moved(self, by: Point) -> Box:
        return Box(moved(self.min_coords, by), moved(self.max_coords, by))


class Complement(Region):
    """All points that a shape does not hold."""

    __module__ = "ngdata.regions"
    shape: Shape

    def __init__(self, shape: Shape) -> None:
        self._set(shape=shape)

    @property
    def is_nothing(self) -> bool:
        """Whether it is written as the complement of everything."""
        return isinstance(self.shape, Box) and self.shape.is_everything

    @cached_property
    def _key(self) -> Key:
        return (_RANK_OF_COMPLEMENT, self.shape._key)

    @property
    def _levels(self) -> frozenset[int | None]:
        return self.shape._levels

    @property
    def _cost(self) -> int:
        return self.shape._cost

    def _mask(self, places: Callable[[int | None], Places]) -> np.ndarray:
        x, y, z, is_defined = places(self.shape.level)
        return np.asarray(is_defined & ~self.shape._inside(x, y, z))

    def _classify(self, cells: Cells, level: int | None) -> tuple[np.ndarray, np.ndarray]:
        is_inside, is_outside = self.shape._classify(cells, level)
        return is_outside, is_inside

    def _corners(self, level: int | None) -> list[Corners]:
        if not same_level(self.shape.level, level):
            return [INFINITE]
        return [] if self.is_nothing else [self.shape._outer_extent]

    def _each(self, change: Callable[[Shape], Shape]) -> Region:
        return Complement(change(self.shape))

    def __invert__(self) -> Region:
        return self.shape

    def to_dict(self) -> dict[str, Any]:
        """Return the region as plain data, which JSON can hold."""
        return {"type": COMPLEMENT, "of": self.shape.to_dict()}

    def __repr__(self) -> str:
        return f"NOWHERE{self.shape._on()}" if self.is_nothing else f"~{self.shape!r}"


class _Compound(Region):
    """A union or an intersection of at least two parts, in canonical form."""

    _rank: ClassVar[int]
    _joins: ClassVar[np.ufunc]
    _word: ClassVar[str]
    parts: tuple[Region, ...]

    def __init__(self, parts: Iterable[Region]) -> None:
        self._set(parts=tuple(parts))
        if self._depth > _MAX_DEPTH or self._shape_count > _MAX_SHAPES:
            raise InvalidQueryError(
                f"a region has at most {_MAX_SHAPES:,} shapes and {_MAX_DEPTH} levels of unions and "
                f"intersections in each other, and this one would have {self._shape_count:,} and "
                f"{self._depth}; each ^ writes both of its operands twice, so join many by | or &"
            )

    @classmethod
    def of(cls, parts: Iterable[Region]) -> Region:
        """Return the region of these parts, in canonical form."""
        flat: list[Region] = []
        for part in parts:
            flat.extend(part.parts if isinstance(part, cls) else [part])
        folded = cls._folded(list(dict.fromkeys(flat)))
        ordered = sorted(folded, key=lambda part: part._key)
        return ordered[0] if len(ordered) == 1 else cls(ordered)

    @classmethod
    @abstractmethod
    def _folded(cls, parts: list[Region]) -> list[Region]:
        """Leave out what changes nothing, on no level."""

    @cached_property
    def _key(self) -> Key:
        return (self._rank, *(part._key for part in self.parts))

    @cached_property
    def _depth(self) -> int:
        return 1 + max(part._depth for part in self.parts)

    @cached_property
    def _shape_count(self) -> int:
        return sum(part._shape_count for part in self.parts)

    @cached_property
    def _levels(self) -> frozenset[int | None]:
        return frozenset().union(*(part._levels for part in self.parts))

    @cached_property
    def _cost(self) -> int:
        return sum(part._cost for part in self.parts)

    def _mask(self, places: Callable[[int | None], Places]) -> np.ndarray:
        masks = (part._mask(places) for part in self.parts)
        return np.asarray(functools.reduce(self._joins, masks))

    def _each(self, change: Callable[[Shape], Shape]) -> Region:
        return self.of(part._each(change) for part in self.parts)

    def to_dict(self) -> dict[str, Any]:
        """Return the region as plain data, which JSON can hold."""
        return {"type": self._word, "of": [part.to_dict() for part in self.parts]}


class Intersection(_Compound):
    """The points that all parts hold."""

    __module__ = "ngdata.regions"
    _rank = _RANK_OF_INTERSECTION
    _joins = np.logical_and
    _word = "intersection"

    @classmethod
    def _folded(cls, parts: list[Region]) -> list[Region]:
        boxes = [part for part in parts if isinstance(part, Box)]
        others = [part for part in parts if not isinstance(part, Box)]
        folded = list(dict.fromkeys([*_met(boxes), *others]))
        return _without(folded, absorbing=_is_nothing, neutral=_is_everything)

    def _classify(self, cells: Cells, level: int | None) -> tuple[np.ndarray, np.ndarray]:
        low, high = cells
        is_inside, is_outside = np.ones(len(low), bool), np.zeros(len(low), bool)
        for part in self.parts:
            # What one part excludes need not be tested against the others.
            left = np.flatnonzero(~is_outside)
            inside, outside = part._classify((low[left], high[left]), level)
            is_inside[left] &= inside
            is_outside[left] |= outside
        return is_inside & ~is_outside, is_outside

    def _corners(self, level: int | None) -> list[Corners]:
        lists = sorted((part._corners(level) for part in self.parts), key=len)
        met = lists[0]
        for corners in lists[1:]:
            # All pairs, unless they are too many: a box around several boxes holds them too.
            if len(met) * len(corners) > _MAX_PAIRS:
                around = joined(corners)
                corners = [] if around is None else [around]
            pairs = (common(a, b) for a in met for b in corners)
            met = [pair for pair in pairs if pair is not None]
        return met

    def __invert__(self) -> Region:
        return Union.of(~part for part in self.parts)

    def __repr__(self) -> str:
        return " & ".join(
            f"({part!r})" if isinstance(part, Union) else repr(part) for part in self.parts
        )


class Union(_Compound):
    """The points that any part holds."""

    __module__ = "ngdata.regions"
    _rank = _RANK_OF_UNION
    _joins = np.logical_or
    _word = "union"

    @classmethod
    def _folded(cls, parts: list[Region]) -> list[Region]:
        # What is outside of one of several boxes is outside of their common part.
        boxes = [p.shape for p in parts if isinstance(p, Complement) and isinstance(p.shape, Box)]
        others = [p for p in parts if not (isinstance(p, Complement) and isinstance(p.shape, Box))]
        folded = list(dict.fromkeys([*(~box for box in _met(boxes)), *others]))
        return _without(folded, absorbing=_is_everything, neutral=_is_nothing)

    def _classify(self, cells: Cells, level: int | None) -> tuple[np.ndarray, np.ndarray]:
        low, high = cells
        is_inside, is_outside = np.zeros(len(low), bool), np.ones(len(low), bool)
        for part in self.parts:
            around = joined(part._corners(level))
            if around is None:
                continue
            # Most of many parts are far from most cells.
            near = np.flatnonzero(((low <= around[1]) & (high >= around[0])).all(axis=1))
            inside, outside = part._classify((low[near], high[near]), level)
            is_inside[near] |= inside
            is_outside[near] &= outside
        return is_inside, is_outside

    def _corners(self, level: int | None) -> list[Corners]:
        return [corners for part in self.parts for corners in part._corners(level)]

    def __invert__(self) -> Region:
        return Intersection.of(~part for part in self.parts)

    def __repr__(self) -> str:
        return " | ".join(map(repr, self.parts))


_MAX_PAIRS: Final = 64


def same_level(own: int | None, level: int | None) -> bool:
    """Return whether a part's own level is that of the read; None is the read's."""
    return own is None or own == level


def _unknown(cells: Cells) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros(len(cells[0]), bool), np.zeros(len(cells[0]), bool)


def _is_nothing(region: Region) -> bool:
    return isinstance(region, Complement) and region.is_nothing


def _is_everything(region: Region) -> bool:
    return isinstance(region, Box) and region.is_everything


def _without(
    parts: list[Region], absorbing: Callable[[Region], bool], neutral: Callable[[Region], bool]
) -> list[Region]:
    """Leave out parts that decide nothing.

    A part on another level says more than it seems to: only tokens that are defined on the level are
    in it.  So parts are compared only if they are all on one level.
    """
    kept = parts
    for special in filter(absorbing, parts):
        kept = [part for part in kept if part is special or part._levels != special._levels]
    for special in filter(neutral, parts):
        if any(part is not special and part._levels == special._levels for part in kept):
            kept = [part for part in kept if part is not special]
    return kept


def _met(boxes: list[Box]) -> list[Region]:
    """Return the common part of the boxes on each level."""
    met: dict[int | None, Corners | None] = {}
    for box in boxes:
        before = met.get(box.level, INFINITE)
        met[box.level] = None if before is None else common(before, box._extent)
    return [_box(corners, level) for level, corners in met.items()]


def _box(corners: Corners | None, level: int | None) -> Region:
    """Return a box that is bound to a level, or nothing."""
    region = NOWHERE if corners is None else Box(*corners)
    return region._each(lambda shape: shape._bound(level))


_COMPOUNDS: Final[Mapping[str, Callable[[list[Region]], Region]]] = {
    Union._word: Union.of,
    Intersection._word: Intersection.of,
    COMPLEMENT: lambda parts: ~parts[0],
}

EVERYWHERE: Final = Box(*INFINITE)
"""All points.  On a level, the tokens that are defined there: ``EVERYWHERE.on("motor")``."""

NOWHERE: Final = Complement(EVERYWHERE)
"""No point."""
