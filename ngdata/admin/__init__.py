"""Administration of a store: examine it, repair or reorder its spatial index; the command line."""

from ngdata.admin.doctor import Finding, examine

__all__ = ["Finding", "examine"]
