"""The sync API: the async methods, blocking, on one background loop.

`base` and `lifecycle` are written by hand; scripts/generate_sync.py generates the other modules from
the async ones.
"""
