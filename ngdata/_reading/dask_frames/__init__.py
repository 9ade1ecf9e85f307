"""Answers in partitions, for Dask: made here, read by its workers, each over its own connection."""

from ngdata._reading.dask_frames.planning import DaskFrame, dask_frame

__all__ = ["DaskFrame", "dask_frame"]
