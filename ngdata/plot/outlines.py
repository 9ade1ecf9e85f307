"""Regions as lines: the edges of boxes, hulls and meshes, circles of spheres, planes within bounds."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np

from ngdata._arguments.palette import PALETTE
from ngdata._arguments.shown import shown
from ngdata.errors import InvalidQueryError
from ngdata.plot.scenes import Part
from ngdata.plot.texts import brief
from ngdata.regions import (
    EVERYWHERE,
    NOWHERE,
    Box,
    HalfSpace,
    Hull,
    Mesh,
    OrientedBox,
    Region,
    Sphere,
)
from ngdata.regions.algebra import Complement, Shape, same_level

__all__ = ["Regions", "named_regions", "outlined"]

Regions: TypeAlias = Region | Iterable[Region] | Mapping[str, Region]
"""What `regions=` takes: one region, several, or several by name."""

# The two corners of each edge of a box; a corner is its bits: 0b100 is high in x.
_CORNERS: Final = np.array(list(itertools.product((0, 1), repeat=3)))
_EDGES: Final = np.array(
    [(a, b) for a in range(8) for b in range(8) if a < b and (a ^ b).bit_count() == 1]
)

# Circles of a sphere, and their points, of few spheres and of many.
_CIRCLES: Final = (48, (-0.5, 0.0, 0.5))
_FEW_CIRCLES: Final = (24, (0.0,))
_MANY_SHAPES: Final = 30

# Regions begin where the colours of few categories end.
_FIRST_COLOR: Final = 4

# A surface of more edges is drawn as a surface.
_MAX_EDGES: Final = 3000

# Triangles of one plane, but for rounding: their common edge is none of the solid.
_SAME_PLANE: Final = 1e-9

# How far shapes without end reach beyond the data, as a share of the data's extent.
_BEYOND: Final = 0.05


def named_regions(regions: Regions | None) -> dict[str, Region]:
    """Return an argument that is one region or several, by the names that the legend shows."""
    if regions is None:
        return {}
    if isinstance(regions, Mapping):
        named = [(brief(name), region) for name, region in regions.items()]
    else:
        try:
            several = [regions] if isinstance(regions, Region) else list(regions)
        except TypeError:
            raise _no_regions(regions) from None
        named = [
            (_name(region) if isinstance(region, Region) else "", region) for region in several
        ]
    result: dict[str, Region] = {}
    for name, region in named:
        if not isinstance(region, Region):
            raise _no_regions(region)
        number = next(n for n in itertools.count(1) if _numbered(name, n) not in result)
        result[_numbered(name, number)] = region
    return result


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{name} {number}"


def _name(region: Any) -> str:
    if region in (EVERYWHERE, NOWHERE):
        return "everywhere" if region == EVERYWHERE else "nowhere"
    return f"not {_name(region.shape)}" if isinstance(region, Complement) else type(region).__name__


def _no_regions(value: Any) -> InvalidQueryError:
    return InvalidQueryError(
        "regions must be a region, several, or a dict of regions by name, for instance "
        f'{{"ring": Sphere((0, 0, 0), 1)}}, not {shown(value)}'
    )


@dataclass(frozen=True)
class _Place:
    """A shape of a region, and whether the region is what it does not hold."""

    shape: Shape
    is_outside: bool


def _shapes(region: Region) -> Iterator[_Place]:
    if isinstance(region, Shape):
        yield _Place(region, is_outside=False)
    elif isinstance(region, Complement):
        if region.is_nothing:
            return
        yield _Place(region.shape, is_outside=True)
    else:
        for part in region.parts:  # type: ignore[attr-defined]
            yield from _shapes(part)


def outlined(
    regions: Mapping[str, Region], points: np.ndarray, level: int | None
) -> tuple[list[Part], list[str]]:
    """Return regions as lines, and notes of what of them is not drawn.

    Each region is drawn by its shapes, those that it excludes as dotted lines.  Shapes without end
    are drawn as far as the other shapes and the points reach.

    Parameters
    ----------
    regions : mapping of str to Region
    points : array of shape (n, 3)
        What else is in the figure.
    level : int or None
        That of the figure: shapes that are bound to another one are left out.
    """
    if not regions:
        return [], []
    places = {name: list(_shapes(region)) for name, region in regions.items()}
    drawn = {
        name: [place for place in several if level is None or same_level(place.shape.level, level)]
        for name, several in places.items()
    }
    bounds = _bounds([place.shape for several in drawn.values() for place in several], points)
    parts, notes = [], []
    for position, (name, several) in enumerate(drawn.items()):
        color = PALETTE[(position + _FIRST_COLOR) % len(PALETTE)]
        style = {
            "mode": "lines",
            "name": name,
            "legendgroup": f"region {name}",
            "hoverinfo": "skip",
        }
        left = len(places[name]) - len(several)
        is_legend = True
        for is_outside in (False, True):
            shapes = [place.shape for place in several if place.is_outside == is_outside]
            lines, surfaces = _drawn(shapes, bounds)
            line = {"color": color, "width": 3, "dash": "dot" if is_outside else "solid"}
            if len(lines):
                parts.append(Part(lines, {**style, "line": line, "showlegend": is_legend}))
                is_legend = False
            for mesh in surfaces:
                surface = dict(zip("ijk", mesh.faces.T, strict=True)) | {
                    "opacity": 0.25,
                    "color": color,
                }
                surface |= {name: style[name] for name in ("name", "legendgroup", "hoverinfo")}
                parts.append(
                    Part(mesh.vertices, {**surface, "showlegend": is_legend}, type="mesh3d")
                )
                is_legend = False
        if left:
            verb = "is" if left == 1 else "are"
            notes.append(
                f"{left:,} of {len(places[name]):,} shapes of {name}, on other levels, {verb} not drawn"
            )
        elif is_legend:
            notes.append(f"{name} has no surface in sight")
    return parts, notes


def _bounds(shapes: list[Shape], points: np.ndarray) -> np.ndarray:
    """Return the box in which shapes without end are drawn, as two corners."""
    ends = [points[np.isfinite(points).all(axis=1)]]
    # Of a plane, only if there is nothing else: it may be far from what is to be seen.
    ends += [np.array(shape._extent) for shape in shapes if not isinstance(shape, HalfSpace)]
    around = np.concatenate(ends)
    if not np.isfinite(around).any():
        feet = np.array(
            [_foot(shape) for shape in shapes if isinstance(shape, HalfSpace)] or [np.zeros(3)]
        )
        reach = np.abs(feet).max() or 1.0
        around = np.concatenate([feet - reach, feet + reach])
    low = np.where(np.isfinite(around), around, np.inf).min(axis=0)
    high = np.where(np.isfinite(around), around, -np.inf).max(axis=0)
    is_known = low <= high
    longest = (high[is_known] / 2 - low[is_known] / 2).max() * 2
    # An axis of which nothing is known is as long as the longest.
    low, high = np.where(is_known, low, -longest / 2), np.where(is_known, high, longest / 2)
    margin = _BEYOND * longest if longest else np.abs(low).max() or 1.0
    # Beyond the largest floats there is nothing to draw.
    with np.errstate(over="ignore"):
        bounds: np.ndarray = np.nan_to_num(np.array([low - margin, high + margin]))
    return bounds


def _foot(plane: HalfSpace) -> np.ndarray:
    """Return the point of a plane that is nearest to the origin."""
    normal = np.array(plane.normal) / np.abs(plane.normal).max()
    foot: np.ndarray = normal * (plane.offset / np.abs(plane.normal).max() / (normal @ normal))
    return foot


def _drawn(shapes: list[Shape], bounds: np.ndarray) -> tuple[np.ndarray, list[Mesh]]:
    """Return shapes as lines, with NaN between them, and those of many faces as they are."""
    lines: list[np.ndarray] = []
    surfaces = []
    count, shares = _CIRCLES if len(shapes) <= _MANY_SHAPES else _FEW_CIRCLES
    for shape in shapes:
        match shape:
            case Box():
                lines += _edges(_clipped(shape, bounds))
            case Sphere() if np.isfinite(shape.radius):
                lines += _circles(np.array(shape.center), shape.radius, count, shares)
            case Sphere():
                lines += _edges(bounds[_CORNERS, range(3)])
            case OrientedBox():
                inverse = np.linalg.inv(np.array(shape.axes))
                corners = (2.0 * _CORNERS - 1.0) * shape.half_sizes
                lines += _edges(corners @ inverse.T + shape.center)
            case HalfSpace():
                lines += _plane(shape, bounds)
            case Hull() | Mesh():
                mesh = shape if isinstance(shape, Mesh) else None
                vertices = shape.vertices if isinstance(shape, Mesh) else shape.points
                faces = shape.faces if isinstance(shape, Mesh) else shape._triangles
                edges = _sharp(vertices, faces)
                if mesh is not None and len(edges) > _MAX_EDGES:
                    surfaces.append(mesh)
                else:
                    lines += list(vertices[edges])
    if not lines:
        return np.empty((0, 3)), surfaces
    end = np.full((1, 3), np.nan)
    return np.concatenate([piece for line in lines for piece in (line, end)][:-1]), surfaces


def _clipped(box: Box, bounds: np.ndarray) -> np.ndarray:
    """Return the eight corners of a box, its open sides at the bounds; none if it is beyond them."""
    low, high = np.array(box.min_coords), np.array(box.max_coords)
    low = np.where(np.isfinite(low), low, np.minimum(bounds[0], high))
    high = np.where(np.isfinite(high), high, np.maximum(bounds[1], low))
    corners: np.ndarray = np.stack([low, high])[_CORNERS, range(3)]
    return corners


def _edges(corners: np.ndarray) -> list[np.ndarray]:
    return list(corners[_EDGES])


def _circles(
    center: np.ndarray, radius: float, count: int, shares: Iterable[float]
) -> list[np.ndarray]:
    """Return circles around each of the axes, at these shares of the radius along it."""
    angle = np.linspace(0, 2 * np.pi, count + 1)
    circles = []
    for axis in range(3):
        for share in shares:
            circle = np.zeros((count + 1, 3))
            reach = np.sqrt(1 - share**2)
            circle[:, (axis + 1) % 3], circle[:, (axis + 2) % 3] = (
                reach * np.cos(angle),
                reach * np.sin(angle),
            )
            circle[:, axis] = share
            circles.append(center + radius * circle)
    return circles


def _plane(plane: HalfSpace, bounds: np.ndarray) -> list[np.ndarray]:
    """Return the edges of the part of a box that is in a half-space."""
    scale = np.abs(plane.normal).max()
    normal, offset = np.array(plane.normal) / scale, plane.offset / scale
    corners = bounds[_CORNERS, range(3)]
    # In units of the box, in which products of the largest coordinates are floats too.
    size = np.abs(corners).max() or 1.0
    sides = corners / size @ normal - offset / size
    lines, crossings = [], []
    for a, b in _EDGES:
        if (sides[a] <= 0) != (sides[b] <= 0):
            share = sides[a] / (sides[a] - sides[b])
            crossing = corners[a] + share * (corners[b] - corners[a])
            crossings.append(crossing)
            lines.append(np.array([corners[a] if sides[a] <= 0 else corners[b], crossing]))
        elif sides[a] <= 0:
            lines.append(corners[[a, b]])
    if crossings:
        polygon = np.array(crossings)
        middle = polygon.mean(axis=0)
        first = np.cross(normal, np.eye(3)[np.abs(normal).argmin()])
        second = np.cross(normal, first)
        around = (polygon - middle) / size
        order = np.argsort(np.arctan2(around @ second, around @ first))
        lines.append(polygon[[*order, order[0]]])
    return lines


def _sharp(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Return the edges of a surface, pairs of vertices, without those inside of flat faces."""
    centre = vertices.min(axis=0) / 2 + vertices.max(axis=0) / 2
    size = np.abs(vertices - centre).max() or 1.0
    corners = ((vertices - centre) / size)[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    normals = normals / np.where(lengths > 0, lengths, 1)
    pairs = np.sort(faces[:, [(0, 1), (1, 2), (2, 0)]].reshape(-1, 2), axis=1)
    edges, which = np.unique(pairs, axis=0, return_inverse=True)
    owners = np.repeat(np.arange(len(faces)), 3)[np.argsort(which.reshape(-1), kind="stable")]
    starts = np.searchsorted(np.sort(which.reshape(-1)), np.arange(len(edges)))
    second = np.minimum(starts + 1, len(owners) - 1)
    cosines = np.abs((normals[owners[starts]] * normals[owners[second]]).sum(axis=1))
    is_single = np.bincount(which.reshape(-1), minlength=len(edges)) != 2
    sharp: np.ndarray = edges[is_single | (cosines < 1 - _SAME_PLANE)]
    return sharp
