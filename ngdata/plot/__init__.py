"""Pictures of frames, by plotly: points, graphs, densities, paths and rewards.

::

    points      tokens in 3D, and regions around them
    graph       tokens and their connections in 3D
    density     how many tokens there are in each cell
    path        a trajectory through space
    rewards     rewards over time
    outline     regions alone

Each function takes a frame that ngdata has returned, or one with the same columns, and returns a
plotly figure; ``frame.ng.plot(...)`` calls the one that fits.  A figure shows all rows of its frame, or
says in its title how many it shows.  They need plotly: ``pip install 'ngdata[notebook]'``.
"""

from ngdata.plot.cells import density
from ngdata.plot.clouds import outline, points
from ngdata.plot.curves import rewards
from ngdata.plot.graphs import graph
from ngdata.plot.paths import path

__all__ = ["density", "graph", "outline", "path", "points", "rewards"]
