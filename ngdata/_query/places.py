"""A region on a level: as an argument, and as conditions in SQL on `tokens.spatial_index`."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final, TypeAlias

from ngdata._arguments.levels import Level, level_index
from ngdata._arguments.points import Coordinates
from ngdata._arguments.shown import guarded, shown
from ngdata._query.filters import where_clause
from ngdata._query.index_boxes import few_boxes, in_any_box
from ngdata._query.region_formulas import (
    box_comparisons,
    formulas,
    only_level,
    parts_by_level,
)
from ngdata.errors import InvalidQueryError
from ngdata.regions.algebra import EVERYWHERE, Box, Intersection, Region, Shape
from ngdata.regions.cells import has_cells
from ngdata.regions.corners import Corners, common, is_finite, joined

__all__ = ["SPATIAL_INDEX", "Place", "Window"]

SPATIAL_INDEX: Final = "tokens.spatial_index"

Window: TypeAlias = (
    "Region | tuple[Region, Level]"
    " | tuple[Coordinates, Coordinates] | tuple[Coordinates, Coordinates, Level]"
)
"""A region as an argument, perhaps with a level; or the two corners of a box, perhaps with one."""


@dataclass(frozen=True)
class Place:
    """A region on the level of a read, or the part of it in a box.

    Attributes
    ----------
    region : Region
        A part that is bound to another level holds tokens by their points there.
    level : int
        The level of the read, and of the parts that are bound to none.
    part : Box
        One of several boxes that a read is split into; the region's formula stays one.
    uses_index : bool
        Whether `search_conditions` has those that the spatial index answers.
    """

    region: Region
    level: int
    part: Box = EVERYWHERE
    uses_index: bool = True

    def __post_init__(self) -> None:
        # Parts that are bound to the read's own level are as those that are bound to none.
        if self.level in self.region._levels:
            own = self.region._each(
                lambda shape: shape._bound(None) if shape.level == self.level else shape
            )
            object.__setattr__(self, "region", own)

    @classmethod
    def of(cls, region: object, max_coords: object, level: Level) -> Place:
        """Check the arguments of a region: a region and no more, or the two corners of a box."""
        number = level_index(level)
        if isinstance(region, Region):
            if max_coords is not None:
                raise InvalidQueryError(
                    "pass either a region or the two corners of a box, but max_coords is "
                    f"{shown(max_coords)} beside a region; a level is level="
                )
            return cls(region, number)
        if max_coords is None:
            raise InvalidQueryError(
                "min_coords must be a region, or come with max_coords, the other corner of a box; it is "
                f"{shown(region)}"
            )
        return cls(Box(region, max_coords), number)  # type: ignore[arg-type]

    @classmethod
    def within(cls, window: Window, level: Level = 0) -> Place:
        """Check a ``within=`` argument; `level` is that of one without."""
        return _window(window, "within", level)

    @classmethod
    def in_read(cls, window: Window | None, level: Level) -> Place | None:
        """Check a ``within=`` argument of a read of one level, which is the region's by default.

        A region on another level holds the tokens that are in it there.
        """
        if window is None:
            return None
        place, number = cls.within(window, level), level_index(level)
        return place if place.level == number else cls(place.region.on(place.level), number)

    @property
    def is_box(self) -> bool:
        """Whether it is exactly its corners."""
        return isinstance(self.region, Box) and self.region.level is None

    @cached_property
    def _boxes(self) -> list[Corners]:
        if isinstance(self.region, Shape):
            boxes = self.region._corners(self.level)
        else:
            boxes = _few_corners(self.region, self.level)
        return [met for box in boxes if (met := common(box, self.part._extent)) is not None]

    @cached_property
    def corners(self) -> Corners | None:
        """The corners of a box that holds all of it on the level; None if it holds nothing."""
        return joined(self._boxes)

    def in_part(self, part: Box) -> Place:
        """Return the part of the same region in a box."""
        if self.is_box:
            return replace(self, region=self.region & part)
        return replace(self, part=part)

    def beside_index(self) -> Place:
        """Return the same place, whose rows are found by the exact formula alone."""
        return replace(self, uses_index=False)

    def conditions(self, *, is_joined: bool = False) -> list[str]:
        """Write the SQL conditions on `tokens.spatial_index` for exactly this place.

        The index answers ``&&&``, in float32 and rounded outwards; the formula in float64 then keeps
        the points that are inside.  An infinite side needs no comparison.

        If the rows are joined to another table (`is_joined`), the planner must expect about as many
        as there are.  It has no statistics of coordinates, and expects one row after comparisons,
        however many the index returns; after a CASE, it expects half of these.
        """
        search = self.search_conditions()
        if self._on_other_level is None:
            exact = self.comparisons()
        else:
            # Of a region without bounds on this level, the bounded part on another one comes first.
            elsewhere, rest = self._on_other_level
            search.append(f"token_id = ANY (ARRAY({elsewhere.token_ids()}))")
            exact = replace(self, region=rest).comparisons()
        if is_joined and exact:
            exact = [f"CASE WHEN {' AND '.join(exact)} THEN true ELSE false END"]
        return search + exact

    def search_conditions(self) -> list[str]:
        """Write the conditions that the spatial index answers, and that may hold for further points."""
        level = f"level = {self.level}"
        return [level, in_any_box(self._boxes)] if self.uses_index else [level]

    def comparisons(self) -> list[str]:
        """Write the exact formula, which no index answers."""
        if self.is_box:
            return box_comparisons(self._boxes[0])
        return [*box_comparisons(self.part._extent), *_exact(self.region, self.level)]

    @cached_property
    def _on_other_level(self) -> tuple[Place, Region] | None:
        """A bounded part on another level and what is left, if no part on this level is bounded."""
        if self.corners is None or any(map(math.isfinite, (*self.corners[0], *self.corners[1]))):
            return None
        region = self.region
        parts = (
            parts_by_level(region, Intersection) if isinstance(region, Intersection) else [region]
        )
        for part in parts:
            other = only_level(part)
            place = None if other is None else Place(part, other)
            if place is not None and (place.corners is None or is_finite(place.corners)):
                rest = [each for each in parts if each is not part]
                return place, Intersection.of(rest) if rest else EVERYWHERE
        return None

    def token_ids(self) -> str:
        """Write the SELECT of the ids of the tokens in the place."""
        return f"SELECT token_id FROM {SPATIAL_INDEX}{where_clause(self.conditions())}"


# A region of many shapes is read again and again, and its text may take longer to write than its rows
# to read.  Without a lock, which a fork could leave locked: at worst, two threads write the same text.
_texts: Final[dict[tuple[Region, int], list[str]]] = {}

# The formula of a mesh takes some 600 characters per triangle.
_MAX_CHARACTERS: Final = 64 << 20
_MAX_TEXTS: Final = 64


@functools.lru_cache(maxsize=64)
def _few_corners(region: Region, level: int) -> list[Corners]:
    return few_boxes(region._corners(level))


def _exact(region: Region, level: int) -> list[str]:
    if not has_cells(region):
        return formulas(region, level, _in_region_of_level)
    texts = _texts.get((region, level))
    if texts is None:
        texts = _texts[region, level] = formulas(region, level, _in_region_of_level)
        kept = list(_texts.items())
        characters = sum(len(text) for _, several in kept for text in several)
        for number, (key, several) in enumerate(kept[:-1]):
            if characters <= _MAX_CHARACTERS and len(kept) - number <= _MAX_TEXTS:
                break
            characters -= sum(map(len, several))
            _texts.pop(key, None)
    return texts


def _in_region_of_level(region: Region, level: int) -> str:
    # As the operand of IS TRUE, the tokens are read once and hashed, whatever the planner expects.
    return f"(token_id IN ({Place(region, level).token_ids()})) IS TRUE"


@guarded
def _window(window: Any, name: str, level: Level) -> Place:
    if isinstance(window, Region):
        return Place.of(window, None, level)
    if isinstance(window, tuple | list):
        if len(window) > 1 and all(isinstance(part, Region) for part in window):
            raise InvalidQueryError(
                f"{name} must be one region, not {len(window)} of them; join regions by | or &"
            )
        if window and isinstance(window[0], Region) and len(window) <= 2:
            return Place.of(window[0], None, window[1] if len(window) == 2 else level)
        if len(window) in (2, 3):
            return Place.of(window[0], window[1], window[2] if len(window) == 3 else level)
    raise InvalidQueryError(
        f"{name} must be a region, (region, level), (min_coords, max_coords) or (min_coords, "
        f"max_coords, level), not {shown(window)}"
    )
