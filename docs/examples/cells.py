"""A CSV of one's own: integer ids, extra columns, two errors corrected, to a file and back.

The rows are invented.
"""

import tempfile
from pathlib import Path

import ngdata
from ngdata import files

TABLE = Path(__file__).parent / "data" / "cells.csv"
NAMES = {"token_id": "root_id", "token_type": "cell_type"}
NAMES |= {axis: f"soma_{axis}" for axis in "xyz"}
COLUMNS = ["token_id", "level", "x", "y", "z", "token_type", "metadata"]
BOX = (4000, 1000, -2000), (6000, 3000, 2000), "abstract"

with ngdata.connect(ids="integer", id_space="cells") as ng, tempfile.TemporaryDirectory() as folder:
    # Load: columns with other names, and columns that ngdata does not know.
    loaded = files.load(ng, TABLE, columns=NAMES, level="abstract", extra="metadata")
    print(loaded.created, "cells")

    # Explore.  The least z, and a type of one cell, are errors.
    overview = ng.describe().set_index("name").loc["abstract"]
    print(overview[["tokens", "z_min", "z_max", "token_types"]].to_string())
    odd = ng.tokens.find(where={"side": "right"}, token_type="Pn")
    print(odd[["token_id", "token_type"]])

    # Correct both, and keep the result in a file.
    cells = ng.tokens.find_in_region(*BOX, columns=COLUMNS)
    ng.tokens.bulk_update(cells[cells.z < 0].assign(z=-cells.z))
    ng.tokens.update(odd.token_id, token_type="PN")
    fixed = ng.tokens.find_in_region(*BOX, columns=COLUMNS)
    files.write_parquet(fixed, file := Path(folder) / "cells.parquet")

    # Some cells are lost: the file brings them back, and changes nothing else.
    ng.tokens.delete(fixed.token_id[:3])
    again = ng.tokens.bulk_create(files.read_parquet(file), on_conflict="skip")
    print(again.attrs["ngdata"])

    ng.tokens.delete(fixed.token_id)
