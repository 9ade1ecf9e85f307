"""The store of the properties: one per module, emptied once."""

from tests.properties.conftest import store

__all__ = ["store"]
