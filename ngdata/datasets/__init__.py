"""Real data to begin with: the nervous system of *C. elegans*, in 3D and with its wiring.

302 neurons, the 13,869 segments of their morphologies, and the 5,806 connections between neurons
that have been found under the electron microscope.  The morphologies are those of c302, the cell
types and the connections those of cect, both Copyright (c) OpenWorm and under the MIT licence;
the files, their origin and the licence's text are in ``ngdata/datasets/celegans``.

`sample` turns the files into rows with ids of their own; `loading` writes them into a store.
"""

from ngdata.datasets.loading import load_celegans, load_celegans_async

__all__ = ["load_celegans", "load_celegans_async"]
