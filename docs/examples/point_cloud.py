"""A point cloud of a million points: regions, density, and a change of unit in one transaction.

The number of points is an argument::

    python point_cloud.py 20000
"""

import sys

import numpy as np

import ngdata

NUMBER = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
RADIUS = 10
points = np.random.default_rng(7).normal(0, 50_000, (NUMBER, 3))

with ngdata.connect(ids="integer", id_space="point cloud") as ng:
    # Load, in nanometres.
    ng.set_level("abstract", unit="nm")
    cloud = {"token_id": np.arange(NUMBER), "x": points[:, 0], "y": points[:, 1], "z": points[:, 2]}
    ng.tokens.bulk_create(cloud, level="abstract")

    # Explore a part of it.
    box = (-20_000, -20_000, -20_000), (20_000, 20_000, 20_000), "abstract"
    print(ng.tokens.count_in_region(*box), "points")
    print(ng.tokens.density(*box[:2], bins=(2, 2, 1), level="abstract"))
    core = ng.tokens.find_in_region(*box, columns=["token_id", "x", "y", "z"])
    print(core[["x", "y", "z"]].agg(["min", "max"]).round(1))

    # Correct: micrometres instead.
    cloud |= {axis: cloud[axis] / 1000 for axis in "xyz"}
    ng.tokens.bulk_update(cloud, level="abstract")
    ng.set_level("abstract", unit="µm")
    near = ng.tokens.find_within((0, 0, 0), RADIUS, "abstract")
    print(len(near), "points within", RADIUS, near.attrs["ngdata"]["unit"])

    ng.tokens.delete(cloud["token_id"])
    ng.set_level("abstract", unit="")
