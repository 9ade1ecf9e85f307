"""Spatial token graphs as pandas frames: exact 3D regions, neighbors and events from PostGIS."""
