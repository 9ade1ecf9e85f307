"""Sample data: the nervous system of *C. elegans*, in 3D and with its wiring.

302 neurons, the 13,869 segments of their morphologies, and the 5,806 connections between neurons
that electron microscopy has identified.  The morphologies are those of c302, the cell
types and the connections those of cect, both Copyright (c) OpenWorm and under the MIT licence;
the files, their origin and the licence's text are in ``ngdata/datasets/celegans``.

`sample` reads the files as rows with fixed ids; `loading` writes them into a store.
"""

from ngdata.datasets.loading import load_celegans, load_celegans_async

__all__ = ["load_celegans", "load_celegans_async"]
