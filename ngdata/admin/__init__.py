"""Care for a store: examine it, rebuild its spatial index, put it in order; the command line."""

from ngdata.admin.doctor import Finding, examine

__all__ = ["Finding", "examine"]
