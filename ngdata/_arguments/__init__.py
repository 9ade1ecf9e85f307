"""Callers' values, checked: ids, levels, times, durations, numbers and JSON."""
