"""Benchmarks: ratios against a baseline that is measured in the same run, on the same machine.

    python -m tests.benchmarks [--short] [NAME …]

runs them, each in a process of its own, and writes docs/benchmarks.md; with names, only their sections of it.

A benchmark is a module with `main(long: bool) -> Result`, and its docstring says what it measures and how: it
becomes the text of its section. Absolute figures differ between machines and hours; ratios hold better.
"""
