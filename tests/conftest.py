"""Settings that all tests share."""

from hypothesis import settings

# The same examples on every machine and every run: a failure is never a matter of luck.
settings.register_profile("ci", derandomize=True, deadline=None, database=None)
settings.load_profile("ci")
