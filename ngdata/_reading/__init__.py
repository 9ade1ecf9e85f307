"""Queries to frames: the reader, the cache, Arrow to pandas, Dask frames and files."""
