"""A neuron's skeleton and its synapses: integer ids, a whole tree, distances, a node moved and back.

The neuron 722817260 of a fly's brain: the nodes of its skeleton name their parents, and each synapse
names its node.  Coordinates are voxels of 8 nm.  docs/examples/data/README.md has the source.
"""

from pathlib import Path

import numpy as np
import pandas as pd

import ngdata

DATA = Path(__file__).parent / "data"
COLUMNS = ["token_id", "label", "x", "y", "z", "radius", "parent"]
nodes = pd.read_csv(DATA / "722817260.swc.gz", sep=" ", comment="#", names=COLUMNS)
synapses = pd.read_csv(DATA / "722817260.csv.gz").rename(columns={"type": "token_type"})

with ngdata.connect(ids="integer", id_space="hemibrain 722817260") as ng:
    # Load.  The integers of the file are ids; a synapse, which has none, gets one.
    ng.set_level("physical", unit="voxels of 8 nm")
    ng.tokens.bulk_create(nodes.assign(token_type="node"), extra="metadata")
    synapse_ids = ng.tokens.bulk_create(synapses, extra="metadata")
    links = nodes[nodes.parent > 0].rename(columns={"parent": "source_id", "token_id": "target_id"})
    ng.graph.bulk_create(links[["source_id", "target_id"]].assign(connection_type="parent"))

    # Explore: the tree from its root, the length of its cable, the synapses around a point.
    tree = ng.graph.subgraph(1, depth=None, connection_type="parent")
    cable = ng.tokens.join(tree.connections, on="source_id", columns=["x", "y", "z"])
    cable = ng.tokens.join(cable, on="target_id", columns=["x", "y", "z"], prefix="to_")
    steps = cable[["to_x", "to_y", "to_z"]].to_numpy() - cable[["x", "y", "z"]].to_numpy()
    print(tree, f"with {np.linalg.norm(steps, axis=1).sum() * 0.008:.0f} µm of cable")
    near = ng.tokens.find_within((5600, 22200, 15900), 1000, token_type=["pre", "post"])
    near = ng.tokens.join(near, columns=["metadata.roi"])
    print(near.groupby(["token_type", "metadata.roi"]).distance.agg(["count", "min"]).round(1))

    # Correct: a node is moved by 1 µm, and back.
    place = ng.tokens.find_nearest((4039, 22144, 15386), k=1, token_type="node")
    ng.tokens.bulk_update(place.assign(x=place.x + 125))
    print(ng.tokens.get(place.token_id).coords[0][0])
    ng.tokens.bulk_update(place)

    ng.tokens.delete([*nodes.token_id, *synapse_ids])
    ng.set_level("physical", unit="")
