"""A solid bounded by triangles: which points are inside, by the parity of a ray.

A point is inside if an odd number of triangles lies above it.  Whether a triangle lies above is
decided edge by edge: an odd number of its edges is on one side of the point in x and y, and the
point is below its plane in z.  Each edge is evaluated in one order whichever triangle it belongs to, so that
two triangles that share it never both, and never neither, claim a point between them: there are no
cracks (the even-odd rule of W. Randolph Franklin's PNPOLY, one dimension up).

Cells of a grid that no triangle touches are wholly inside or wholly outside, which answers for most
points without a ray.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Self

import numpy as np
from numpy.typing import ArrayLike

from ngdata._arguments.optional_imports import import_optional
from ngdata._arguments.points import Point
from ngdata._arguments.shown import guarded, shown
from ngdata._arguments.texts import as_path
from ngdata.errors import InvalidQueryError
from ngdata.regions.algebra import Key
from ngdata.regions.arrays import as_points, frozen
from ngdata.regions.cells import INSIDE, OUTSIDE
from ngdata.regions.planes import scale_rows
from ngdata.regions.solids import Solid

__all__ = ["Mesh", "Surface"]

_MAX_FACES: Final = 1_000_000

# The most faces of a mesh and its cells along each axis, and the cells of all larger meshes.
_CELLS_BY_FACES: Final = ((200, 32), (20_000, 64))
_MOST_CELLS: Final = 128

# How far a triangle reaches beyond itself, in cells: more than all rounding of its points.
_MARGIN: Final = 1e-6

# Pairs of a point and an edge that are computed at once: about 100 MB.
_PAIRS: Final = 1_000_000

_MAX_COLUMNS: Final = 256

TOUCHED: Final = 2
"""The state of a cell, beside `INSIDE` and `OUTSIDE`, whose points need a ray."""


class Mesh(Solid):
    """The solid inside a closed surface of triangles.

    Parameters
    ----------
    vertices : array_like of shape (n, 3)
        Equal vertices count as one, so the triangles of an STL file need not share any.
    faces : array_like of shape (m, 3)
        Three positions in `vertices` per triangle, in any winding.

    Raises
    ------
    InvalidQueryError
        The mesh is not watertight: an edge does not belong to exactly two triangles.

    Notes
    -----
    A point off the surface is inside if a ray from it crosses the surface an odd number of times,
    as in `trimesh`.  On the surface itself rounding decides, in the same way here and on the server.

    Examples
    --------
    >>> from ngdata import Mesh
    >>> corners = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    >>> solid = Mesh(corners, [(0, 2, 1), (0, 1, 3), (1, 2, 3), (0, 3, 2)])
    >>> solid.contains([(0.2, 0.2, 0.2), (1, 1, 1)]).tolist()
    [True, False]
    """

    __module__ = "ngdata.regions"
    _rank = 5
    _names = ("vertices", "faces")
    vertices: np.ndarray
    faces: np.ndarray

    def __init__(self, vertices: ArrayLike, faces: ArrayLike) -> None:
        points, triangles = as_points(vertices, "vertices"), _triangles(faces, "faces")
        if len(triangles) and (triangles.min() < 0 or triangles.max() >= len(points)):
            bad = int(((triangles < 0) | (triangles >= len(points))).any(axis=1).argmax())
            raise InvalidQueryError(
                f"faces must be positions in vertices, from 0 to {len(points) - 1}, but face {bad} is "
                f"{tuple(triangles[bad].tolist())}"
            )
        # In one order, so that equal solids are equal: vertices sorted, and each triangle from its
        # least vertex on, in its own winding.
        points, triangles = _without_unused(points, triangles)
        first = triangles.argmin(axis=1)
        order = (first[:, None] + np.arange(3)) % 3
        triangles = np.unique(np.take_along_axis(triangles, order, axis=1), axis=0)
        _check_watertight(points, triangles)
        self._set(vertices=frozen(points), faces=frozen(triangles), level=None)

    @classmethod
    def load(cls, path: str | os.PathLike[str], **options: Any) -> Self:
        r"""Read a file of any format that `trimesh` reads: STL, OBJ, PLY, OFF and others.

        Parameters
        ----------
        path : path
        **options
            Those of `trimesh.load_mesh`.

        Raises
        ------
        InvalidQueryError
            The file cannot be read, or its mesh is not watertight.
        ConfigError
            trimesh is not installed (``pip install 'ngdata[mesh]'``).

        Examples
        --------
        >>> import pathlib, tempfile
        >>> from ngdata import Mesh
        >>> corners = "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\n"
        >>> file = pathlib.Path(tempfile.mkdtemp()) / "solid.obj"
        >>> _ = file.write_text(corners + "f 1 3 2\nf 1 2 4\nf 2 3 4\nf 1 4 3\n")
        >>> Mesh.load(file).bounds
        Box((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
        """
        name = as_path(path, "path")
        trimesh = import_optional("trimesh", "Mesh.load", "mesh")
        try:
            mesh = trimesh.load_mesh(name, **options)
            vertices, faces = np.array(mesh.vertices), np.array(mesh.faces)
        except Exception as error:
            raise InvalidQueryError(
                f"path {shown(name)} cannot be read as a mesh: {error}"
            ) from error
        return cls(vertices, faces)

    @property
    def _values(self) -> Key:
        return self.vertices.tobytes(), self.faces.tobytes()

    @property
    def _cost(self) -> int:
        return 20 + len(self.faces) // 10

    def _arguments(self) -> str:
        return f"{self.vertices.tolist()}, {self.faces.tolist()}"

    def _fields(self) -> dict[str, Any]:
        return {"vertices": self.vertices.tolist(), "faces": self.faces.tolist()}

    @cached_property
    def _surface(self) -> Surface:
        return Surface.of(self.vertices, self.faces)

    @cached_property
    def _grid(self) -> _Grid:
        return _Grid.of(self._surface, self.vertices[self.faces])

    @property
    def _own_points(self) -> np.ndarray:
        return self.vertices

    def _inside_box(self, points: np.ndarray) -> np.ndarray:
        states = self._grid.states_at(points)
        is_touched, inside = states == TOUCHED, np.asarray(states == INSIDE)
        inside[is_touched] = self._surface.has_inside(points[is_touched])
        return inside

    def _cells(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self._grid.classified(low, high)

    def _moved(self, by: Point) -> Mesh:
        return Mesh(self.vertices + np.array(by), self.faces)


@guarded
def _triangles(faces: Any, name: str) -> np.ndarray:
    try:
        array = np.asarray(faces)
    except ValueError:
        array = np.empty(0)
    if array.ndim != 2 or array.shape[1] != 3 or array.dtype.kind not in "iu":
        raise InvalidQueryError(
            f"{name} must be an integer array of shape (m, 3), three positions in vertices per "
            f"triangle, not {shown(faces)}; split faces of more corners into triangles first"
        )
    if not 4 <= len(array) <= _MAX_FACES:
        raise InvalidQueryError(
            f"{name} must be 4 to {_MAX_FACES:,} triangles, not {len(array):,}; simplify a larger mesh "
            "first, such as by trimesh's simplify_quadric_decimation"
        )
    # A position beyond any array is a wrong one, not a negative one.
    return np.asarray(np.minimum(array, np.iinfo(np.int64).max), np.int64)


def _without_unused(points: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the used vertices, sorted, each once, and the triangles that do not collapse."""
    merged, positions = np.unique(points[faces.reshape(-1)], axis=0, return_inverse=True)
    triangles = positions.reshape(faces.shape)
    collapses = (
        (triangles[:, 0] == triangles[:, 1])
        | (triangles[:, 1] == triangles[:, 2])
        | (triangles[:, 2] == triangles[:, 0])
    )
    return merged, triangles[~collapses]


def _edges(faces: np.ndarray) -> np.ndarray:
    """Return the three edges of each triangle, as an array of shape (m, 3, 2), least vertex first."""
    pairs = np.stack([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]], axis=1)
    return np.sort(pairs, axis=2)


def _check_watertight(points: np.ndarray, faces: np.ndarray) -> None:
    edges, uses = np.unique(_edges(faces).reshape(-1, 2), axis=0, return_counts=True)
    is_open = uses != 2
    if not len(faces) or not np.ptp(points, axis=0).all():
        raise InvalidQueryError(
            "the mesh encloses nothing: all of its triangles are flat, or in one plane"
        )
    if not is_open.any():
        return
    first = int(is_open.argmax())
    a, b = (tuple(points[vertex].tolist()) for vertex in edges[first])
    raise InvalidQueryError(
        f"the mesh is not watertight: {int(is_open.sum()):,} of {len(edges):,} edges belong to one "
        f"triangle, or to more than two, such as that from {a} to {b}, which belongs to {uses[first]}; "
        "close the holes first, for example by trimesh.repair.fill_holes, or use the hull of the "
        "vertices, ngdata.Hull(vertices)"
    )


@dataclass(frozen=True, eq=False)
class Surface:
    """The triangles of a mesh, ready for rays upwards.

    Attributes
    ----------
    edges : array of shape (m, 3, 5)
        Of each triangle's edges: the lower y, the upper y, the x at the lower y, and the edge's
        (dx, dy), scaled.
    planes : array of shape (m, 8)
        Of each triangle: the least and the largest z, a corner, and the normal upwards, scaled; a
        normal of zeros if the triangle is upright.
    low, high : array of shape (2,)
        The corners in x and y of a grid of columns.
    columns : int
        The number of columns along each axis; one more on each side catches what lies beyond.
    starts : array of shape ((columns + 2) ** 2 + 1,)
        Where the triangles of each column begin in `listed`.
    listed : array
        Triangles, column by column.
    """

    edges: np.ndarray
    planes: np.ndarray
    low: np.ndarray
    high: np.ndarray
    columns: int
    starts: np.ndarray
    listed: np.ndarray

    @classmethod
    def of(cls, vertices: np.ndarray, faces: np.ndarray) -> Surface:
        """Prepare the triangles of a mesh."""
        corners = vertices[faces]
        # Of size 1, so that no product of two lengths leaves the range of float64.
        unit = np.exp2(-np.frexp(np.ptp(vertices, axis=0).max())[1].astype(float))
        normals = np.cross(
            (corners[:, 1] - corners[:, 0]) * unit, (corners[:, 2] - corners[:, 0]) * unit
        )
        normals = np.where(normals[:, 2:] < 0, -normals, normals)
        normals = np.where(normals[:, 2:] == 0, 0.0, normals)
        z = corners[:, :, 2]
        planes = np.column_stack([z.min(axis=1), z.max(axis=1), corners[:, 0], scale_rows(normals)])
        pairs = _edges(faces).reshape(-1, 2)
        a, b = vertices[pairs[:, 0]], vertices[pairs[:, 1]]
        is_swapped = a[:, 1] > b[:, 1]
        a, b = np.where(is_swapped[:, None], b, a), np.where(is_swapped[:, None], a, b)
        edges = np.column_stack([a[:, 1], b[:, 1], a[:, 0], scale_rows((b - a)[:, :2] * unit)])
        low, high = vertices.min(axis=0)[:2], vertices.max(axis=0)[:2]
        columns = int(np.clip(np.sqrt(len(faces)), 1, _MAX_COLUMNS))
        starts, listed = _columns(corners[:, :, :2], low, high, columns)
        return cls(edges.reshape(-1, 3, 5), planes, low, high, columns, starts, listed)

    def column_of(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the column of each point.

        It need not be that of the server, as both of two columns list the triangles near their border.
        """
        i, j = (
            _bucket(values, low, high, self.columns)
            for values, low, high in zip((x, y), self.low, self.high, strict=True)
        )
        return np.asarray(i * (self.columns + 2) + j)

    def has_inside(self, points: np.ndarray) -> np.ndarray:
        """Return which points are inside, by a ray each."""
        inside = np.zeros(len(points), bool)
        column = self.column_of(points[:, 0], points[:, 1])
        counts = self.starts[column + 1] - self.starts[column]
        ends = np.cumsum(counts)
        first = 0
        while first < len(points):
            before = ends[first - 1] if first else 0
            last = max(first + 1, int(np.searchsorted(ends, before + _PAIRS, side="right")))
            part = slice(first, last)
            inside[part] = self._parity(points[part], self.starts[column[part]], counts[part])
            first = last
        return inside

    def _parity(self, points: np.ndarray, starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
        point, within = _spread(counts)
        face = self.listed[starts[point] + within]
        x, y, z = points[point].T
        is_beside = np.zeros(len(face), bool)
        for edge in range(3):
            y_low, y_high, x_low, dx, dy = self.edges[face, edge].T
            hits = (y >= y_low) & (y < y_high)
            hits &= dx * (y - y_low) - dy * (x - x_low) > 0
            is_beside ^= hits
        point, face = point[is_beside], face[is_beside]
        z_low, z_high, ax, ay, az, a, b, c = self.planes[face].T
        x, y, z = points[point].T
        plane = (a * (x - ax) + b * (y - ay)) + c * (z - az)
        is_below = (z < z_low) | ((z < z_high) & (c > 0) & (plane < 0))
        crossings = np.bincount(point[is_below], minlength=len(points))
        return np.asarray(crossings % 2 == 1)


def _spread(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each of several counts its position that many times, and 0, 1, ... beside it."""
    owners = np.repeat(np.arange(len(counts)), counts)
    return owners, np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)


def _bucket(values: np.ndarray, low: float, high: float, count: int) -> np.ndarray:
    """Return the position of values among `count` equal parts, 0 below, count + 1 from `high` on."""
    with np.errstate(all="ignore"):
        part = np.floor((values - low) / (high - low) * count) + 1
    return np.asarray(np.clip(np.nan_to_num(part), 0, count + 1).astype(np.int64))


def _columns(
    corners: np.ndarray, low: np.ndarray, high: np.ndarray, columns: int
) -> tuple[np.ndarray, np.ndarray]:
    """List the triangles that reach into each column."""
    size = (high - low) / columns
    margin = _MARGIN + 8 * np.finfo(float).eps * _largest(low, high) / size
    first, last = (
        np.clip(np.floor((ends - low) / size + side * margin) + 1, 0, columns + 1).astype(np.int64)
        for side, ends in ((-1, corners.min(axis=1)), (1, corners.max(axis=1)))
    )
    wide, tall = (last - first + 1).T
    face, within = _spread(wide * tall)
    i, j = first[face, 0] + within // tall[face], first[face, 1] + within % tall[face]
    column = i * (columns + 2) + j
    order = np.argsort(column, kind="stable")
    starts = np.searchsorted(column[order], np.arange((columns + 2) ** 2 + 1))
    return starts, face[order]


@dataclass(frozen=True, eq=False)
class _Grid:
    """The cells of a mesh: inside, outside, or touched by a triangle.

    Attributes
    ----------
    low, size : array of shape (3,)
        The corner of the grid, and the size of a cell.
    states : array of shape (n, n, n)
    touched_before : array of shape (n + 1, n + 1, n + 1)
        The number of touched cells before each corner: eight of them count those in a box.
    """

    low: np.ndarray
    size: np.ndarray
    states: np.ndarray
    touched_before: np.ndarray

    @classmethod
    def of(cls, surface: Surface, triangles: np.ndarray) -> _Grid:
        """Find the cells that triangles touch, and which of the others are inside."""
        n = next((n for most, n in _CELLS_BY_FACES if len(triangles) <= most), _MOST_CELLS)
        low, high = triangles.min(axis=(0, 1)), triangles.max(axis=(0, 1))
        size = (high - low) / n
        # A mesh without a thickness encloses nothing; its cells only have to be of some size.
        size = np.where(size > 0, size, np.maximum(np.abs(low), 1e-300))
        touched = _touched(
            (triangles - low) / size, n, 8 * np.finfo(float).eps * _largest(low, high) / size
        )
        states = np.where(touched, np.uint8(TOUCHED), np.uint8(OUTSIDE))
        # Along z, the state changes only at touched cells: the first cell of each run decides.
        begins = ~touched
        begins[:, :, 1:] &= touched[:, :, :-1]
        cells = np.argwhere(begins)
        is_inside = surface.has_inside(low + (cells + 0.5) * size)
        states[tuple(cells[is_inside].T)] = INSIDE
        for k in range(1, n):
            continues = ~touched[:, :, k] & ~begins[:, :, k]
            states[:, :, k] = np.where(continues, states[:, :, k - 1], states[:, :, k])
        before = np.zeros((n + 1,) * 3, np.int32)
        before[1:, 1:, 1:] = touched.cumsum(0, np.int32).cumsum(1).cumsum(2)
        return cls(low, size, states, before)

    def states_at(self, points: np.ndarray) -> np.ndarray:
        """Return the state of the cell of each point, all of which are in the grid."""
        n = len(self.states)
        cells = np.clip(np.floor((points - self.low) / self.size), 0, n - 1).astype(np.int64)
        states: np.ndarray = self.states[tuple(cells.T)]
        return states

    def classified(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return which boxes are wholly inside the mesh, and which wholly outside."""
        n = len(self.states)
        # A triangle's margin is larger than this one.
        first = np.floor((low - self.low) / self.size + _MARGIN / 10)
        last = np.ceil((high - self.low) / self.size - _MARGIN / 10) - 1
        last = np.maximum(last, first)
        # Not by positions: a box that ends on the outermost face holds points of it.
        margin = _MARGIN * self.size
        end = self.low + n * self.size
        is_beyond = ((high < self.low - margin) | (low > end + margin)).any(axis=1)
        first, last = (np.clip(v, 0, n - 1).astype(np.int64) for v in (first, last))
        (a, b, c), (d, e, f) = first.T, last.T + 1
        t = self.touched_before
        count = (
            t[d, e, f] - t[a, e, f] - t[d, b, f] - t[d, e, c]
            + t[a, b, f] + t[a, e, c] + t[d, b, c] - t[a, b, c]
        )  # fmt: skip
        is_clear = (count == 0) & ~is_beyond
        is_inside = is_clear & (self.states[a, b, c] == INSIDE)
        return is_inside, is_beyond | (is_clear & (self.states[a, b, c] == OUTSIDE))


def _largest(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return np.asarray(np.maximum(np.abs(low), np.abs(high)))


def _touched(triangles: np.ndarray, n: int, rounding: np.ndarray) -> np.ndarray:
    """Return which cells triangles touch, in units of cells: split into small ones first."""
    touched = np.zeros((n, n, n), bool)
    margin = _MARGIN + rounding
    parts = triangles
    while len(parts):
        is_small = np.ptp(parts, axis=1).max(axis=1) <= 1.0
        _mark(touched, parts[is_small], margin)
        parts = parts[~is_small]
        a, b, c = parts[:, 0], parts[:, 1], parts[:, 2]
        ab, bc, ca = (a + b) / 2, (b + c) / 2, (c + a) / 2
        parts = np.concatenate(
            [
                np.stack(corners, axis=1)
                for corners in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))
            ]
        )
    return touched


def _mark(touched: np.ndarray, triangles: np.ndarray, margin: np.ndarray) -> None:
    """Mark the cells around small triangles, of at most two cells along each axis."""
    n = len(touched)
    first, last = (
        np.clip(np.floor(v), 0, n - 1).astype(np.int64)
        for v in (triangles.min(axis=1) - margin, triangles.max(axis=1) + margin)
    )
    reach = last - first
    for step in np.ndindex(*(reach.max(axis=0, initial=0) + 1)):
        is_reached = (np.array(step) <= reach).all(axis=1)
        touched[tuple((first[is_reached] + step).T)] = True
