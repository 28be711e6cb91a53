"""Benchmarks: ratios against a baseline measured in the same run, on the same machine.

    python -m tests.benchmarks [NAME …]     run them, and write docs/benchmarks.md

Each module has `main(long: bool) -> Result`. Absolute figures differ between machines; ratios hold better.
"""
