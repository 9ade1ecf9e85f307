"""Composed regions beside their bounding boxes, and a mesh beside a test of its points at the client.

python -m benchmarks.regions --tokens 1000000

Each region is read in turns with the box around it.  The mesh is also compared with what one does
without it: read the box, and keep the points that are inside.
"""

from __future__ import annotations

import argparse
import asyncio
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import pandas as pd
import trimesh

import ngdata
from benchmarks import store
from benchmarks.measure import Timings, Way, alternate, turns_for
from ngdata import Box, HalfSpace, Hull, Mesh, OrientedBox, Region, Sphere

__all__ = ["Result", "bodies", "composed", "main", "measured", "solid", "tables"]

REGION: Final = "the region"
BOX: Final = "the box around it"
OWN_TEST: Final = "the box, then `Mesh.contains`"
TRIMESH_TEST: Final = "the box, then `trimesh` `contains`"

_MESH: Final = "mesh of {:,} triangles"

# For a million points trimesh takes minutes: we measure this many, and multiply the time.
_TRIMESH_POINTS: Final = 20_000


@dataclass
class Result:
    """One region: its rows, those of the box around it, and the times of both."""

    rows: int
    rows_of_box: int
    timings: Timings


def solid(edge: float, subdivisions: int) -> Any:
    """Return a dented ball of triangles along the diagonal of a cube; it fills a fifth of its box."""
    mesh = trimesh.creation.icosphere(subdivisions=subdivisions, radius=1.0)
    x, y, z = mesh.vertices.T
    dents = 1 - 0.3 * np.sin(3 * np.arctan2(y, x)) ** 2 * (1 - z**2)
    axes = np.linalg.qr(np.column_stack([np.ones(3), (0, 1, 0), (0, 0, 1)]))[0]
    vertices = mesh.vertices * dents[:, None] * (1, 0.33, 0.33) @ axes.T
    mesh.vertices = edge / 2 + vertices * (0.49 * edge / np.abs(vertices).max())
    return mesh


def composed(edge: float) -> dict[str, Region]:
    """Return regions of every kind in a cube with this edge at the origin."""
    random = np.random.default_rng(0)
    middle, reach = np.full(3, edge / 2), edge / 2
    axes = np.linalg.qr(random.normal(size=(3, 3)))[0]
    ball = Sphere(middle, reach)
    several: Region = ngdata.NOWHERE
    for center in random.uniform(0.1, 0.9, (60, 3)) * edge:
        several |= Sphere(center, 0.1 * edge)
    return {
        "sphere": ball,
        "shell: a sphere less a sphere": ball - Sphere(middle, 0.6 * reach),
        "box cut by a half-space": Box((0, 0, 0), (edge,) * 3) & HalfSpace((1, 1, 1), 1.5 * edge),
        "turned box": OrientedBox(middle, axes, np.array([0.5, 0.4, 0.3]) * edge),
        "hull of 200 points": Hull(middle + random.normal(size=(200, 3)) * 0.18 * edge),
        "sphere or turned box, not both": ball ^ OrientedBox(middle, axes, (0.5 * reach,) * 3),
        "union of 60 spheres": several,
    }


async def bodies(
    ang: ngdata.AsyncClient, wanted: dict[str, Region], turns: int
) -> dict[str, Result]:
    """Read each region and the box around it in turns."""
    results = {}
    for name, region in wanted.items():
        box = region.bounds
        frame = await ang.tokens.find_in_region(region, columns=["x", "y", "z"])
        around = await ang.tokens.find_in_region(box, columns=["x", "y", "z"])
        assert region.contains(around).sum() == len(frame), f"{name}: the answers differ"
        ways: dict[str, Way] = {
            REGION: partial(ang.tokens.find_in_region, region),
            BOX: partial(ang.tokens.find_in_region, box),
        }
        count = turns_for(len(around) * 5, turns)
        results[name] = Result(len(frame), len(around), await alternate(ways, count))
    return results


async def meshes(ang: ngdata.AsyncClient, edge: float, turns: int) -> dict[str, Result]:
    """Read the inside of a mesh in three ways in turns; the answers must be the same."""
    results = {}
    for subdivisions in (2, 4):
        body = solid(edge, subdivisions)
        mesh = Mesh(body.vertices, body.faces)

        async def tested(mesh: Mesh = mesh) -> pd.DataFrame:
            frame = await ang.tokens.find_in_region(mesh.bounds)
            return frame[mesh.contains(frame)]

        inside, outside = await ang.tokens.find_in_region(mesh), await tested()
        assert sorted(inside.token_id) == sorted(outside.token_id), "the answers differ"
        around = await ang.tokens.count_in_region(mesh.bounds)
        ways: dict[str, Way] = {
            REGION: partial(ang.tokens.find_in_region, mesh),
            OWN_TEST: tested,
            BOX: partial(ang.tokens.find_in_region, mesh.bounds),
        }
        timings = await alternate(ways, turns_for(around * 5, turns))
        part = min(around, _TRIMESH_POINTS)
        box = await ang.tokens.find_in_region(mesh.bounds)
        points = box[["x", "y", "z"]].to_numpy()[:part]
        once = await alternate({TRIMESH_TEST: partial(body.contains, points)}, 1)
        seconds = once.seconds[TRIMESH_TEST][0] * around / part
        timings.seconds[TRIMESH_TEST] = [seconds + timings.median(BOX) / 1000]
        results[_MESH.format(len(body.faces))] = Result(len(inside), around, timings)
    return results


async def measured(url: str, edge: float, turns: int = 9) -> dict[str, Result]:
    """Measure on a filled store."""
    async with await ngdata.connect_async(url, cache="off", max_rows=None) as ang:
        results = await bodies(ang, composed(edge), turns)
        return results | await meshes(ang, edge, turns)


def tables(results: dict[str, Result]) -> str:
    """Return the results as Markdown."""
    lines = [
        "| region | rows | rows of its box | ms | ms of its box | ratio |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, result in results.items():
        timings = result.timings
        lines.append(
            f"| {name} | {result.rows:,} | {result.rows_of_box:,} | {timings.median(REGION):.0f}"
            f" | {timings.median(BOX):.0f} | {timings.ratio(REGION, BOX):.2f} |"
        )
    lines += ["", "| mesh | way | ms | times the region |", "|---|---|---:|---:|"]
    for name, result in results.items():
        for way in (OWN_TEST, TRIMESH_TEST):
            if way in result.timings.seconds:
                timings = result.timings
                lines.append(
                    f"| {name} | {way} | {timings.median(way):,.0f}"
                    f" | {timings.ratio(way, REGION):.1f} |"
                )
    return "\n".join(lines)


def main(tokens: int = 1_000_000, home: str | None = None) -> str:
    """Measure on separate servers, print the tables, and return them."""
    with store.server(home) as addresses:
        url = store.filled(addresses.database_url, tokens)
        results = asyncio.run(measured(url, store.side(tokens)))
    text = tables(results)
    print(text)
    return text


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--home", help="keep the filled store here between runs")
    arguments = parser.parse_args()
    main(arguments.tokens, arguments.home)
