"""Connections to PostgreSQL: pools, transactions, liveness, and what the drivers raise."""
