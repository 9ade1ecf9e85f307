"""Answers in partitions, for Dask: planned here, read by its workers over their own connections."""

from ngdata._reading.dask_frames.planning import DaskFrame, dask_frame

__all__ = ["DaskFrame", "dask_frame"]
