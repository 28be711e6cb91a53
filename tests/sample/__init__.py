"""A service made for tests: one table of effects, and a job for every way that a run can go."""
