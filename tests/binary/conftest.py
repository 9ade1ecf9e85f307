"""Hypothesis as in tests/properties: the same examples on every run, and no clock."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "ngdata",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("ngdata")
