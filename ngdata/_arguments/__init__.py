"""Checks of a caller's values: ids, levels, times, durations, numbers, words and JSON."""
