"""`ngdata doctor`: find problems of a store, its servers or this machine, and say how to fix them.

It reads only: it changes nothing and starts no server. `examination` runs the checks in order;
`machine_checks`, `schema_checks` and `content_checks` hold one kind each.
"""

from ngdata.admin.doctor.examination import examine
from ngdata.admin.doctor.finding import Finding

__all__ = ["Finding", "examine"]
