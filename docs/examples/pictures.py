"""Pictures: the tokens of a worm, their density, a circuit of neurons, and a way through space.

The sample's C. elegans, which this program loads, and deletes at its end.
"""

import pandas as pd

from ngdata import EVERYWHERE, Hull, Sphere, connect
from ngdata.datasets import load_celegans

with connect() as ng:
    neurons = load_celegans(ng)
    ng.set_level("physical", unit="µm")
    token = neurons.set_index("neuron").token_id

    # Points, and a region among them.
    worm = ng.tokens.find_in_region(EVERYWHERE, columns=["token_id", "x", "y", "z", "token_type"])
    head = Sphere((0, -290, 40), 60)
    figures = {"worm": worm.ng.plot(color="token_type", regions={"head": head})}

    # Counts per cell of a grid.
    bounds = Hull(worm).bounds
    figures["density"] = ng.tokens.density(bounds, bins=(8, 40, 8)).ng.plot()

    # Tokens and connections: from sensors of touch to command neurons, and on to motor neurons.
    command = token[[name + side for name in ("AVA", "AVB", "AVD", "PVC") for side in "LR"]]
    motor = token[token.index.str.fullmatch(r"(DA|VA|DB|VB)\d+")]
    touch = ng.graph.connections(token[["ALML", "ALMR", "AVM"]], command).assign(part="touch")
    move = ng.graph.connections(command, motor, connection_type="chemical").assign(part="command")
    degrees = ng.tokens.join(ng.graph.get_degree(token), columns=["x", "y", "z", "metadata.neuron"])
    options = {"color": "total_degree", "size": "total_degree", "line_color": "part"}
    figures["withdrawal"] = degrees.ng.plot.graph(pd.concat([touch, move]), **options)

    # A way through space, step by step.
    way = ng.graph.shortest_path(token["IL2DL"], token["PHAR"])
    figures["way"] = ng.tokens.join(way, on="target_id", columns=["x", "y", "z"]).ng.plot()

    for name, figure in figures.items():
        print(f"{name}: {figure.layout.title.text}")

    ng.tokens.delete(worm.token_id)
    ng.set_level("physical", unit="")
