"""`ngdata doctor`: what is wrong with a store, its servers or this machine, and what to do about it.

It looks and changes nothing, and starts no server. `examination` holds the order of the checks;
`machine`, `catalog` and `contents` one kind each.
"""

from ngdata.admin.doctor.examination import examine
from ngdata.admin.doctor.finding import Finding

__all__ = ["Finding", "examine"]
