"""Regions as values: shapes, and what ``|``, ``&``, ``-``, ``^`` and ``~`` make of them.

Examples
--------
>>> from ngdata import Box, Sphere
>>> region = Box((0, 0, 0), (10, 10, 10)) - Sphere((5, 5, 5), 2)
>>> (5, 5, 7) in region, (5, 5, 7.5) in region
(False, True)
"""

from ngdata.regions.algebra import EVERYWHERE, NOWHERE, Box, Region
from ngdata.regions.hulls import Hull
from ngdata.regions.meshes import Mesh
from ngdata.regions.shapes import HalfSpace, OrientedBox, Sphere

__all__ = [
    "EVERYWHERE",
    "NOWHERE",
    "Box",
    "HalfSpace",
    "Hull",
    "Mesh",
    "OrientedBox",
    "Region",
    "Sphere",
]
