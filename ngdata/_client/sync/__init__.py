"""The sync clients: the async methods, blocking, over one background loop.

`twin` and `opened` are written by hand; the rest is written by scripts/generate_sync.py out of the
async classes.
"""
