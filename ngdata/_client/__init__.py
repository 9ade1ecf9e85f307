"""The clients that users hold: their namespaces, and results with methods."""
