"""A social graph: names as attributes, neighbors by name, networkx and back.

The characters of Les Misérables, which networkx has: who appears together, in how many chapters.
"""

import io

import networkx
import pandas as pd

import ngdata

novel = networkx.les_miserables_graph()
places = networkx.spring_layout(novel, dim=3, seed=1)
people = pd.DataFrame.from_dict(places, orient="index", columns=["x", "y", "z"])
people = people.assign(name=people.index, token_type="character")
together = networkx.to_pandas_edgelist(novel)

with ngdata.connect() as ng:
    # Load.  The ids come back on the frame's index, here the names.
    ids = ng.tokens.bulk_create(people, level="social", extra="metadata")
    links = {"source_id": together.source.map(ids), "target_id": together.target.map(ids)}
    links |= {"weight": together.weight, "connection_type": "together", "bidirectional": True}
    link_ids = ng.graph.bulk_create(pd.DataFrame(links))

    # Explore by name.
    valjean = ng.tokens.find(where={"name": "Valjean"}).token_id
    known = ng.graph.get_neighbors(valjean, min_weight=12)
    known = ng.tokens.join(known, on="neighbor_id", columns=["metadata.name"])
    print(known[["metadata.name", "weight"]].nlargest(4, "weight").to_string(index=False))
    way = ng.graph.shortest_path(ids["Napoleon"], ids["Gavroche"])
    print(ng.tokens.join(way, on="target_id", columns=["metadata.name"])["metadata.name"].tolist())

    # Correct: a chapter more, and a link that is wrong.
    ng.graph.update(link_ids[0], weight=2)
    ng.graph.delete(source=ids["Napoleon"], target=ids["Myriel"])

    # Out and back.
    graph = ng.graph.subgraph(ids, depth=0).to_networkx(attributes="plain")
    graph = networkx.relabel_nodes(graph, dict(zip(ids, ids.index, strict=True)))
    networkx.write_graphml(graph, file := io.BytesIO())
    file.seek(0)
    again = networkx.read_graphml(file)
    print(networkx.Graph(again), again.nodes["Valjean"]["token_type"])
    ng.tokens.delete(ids)
