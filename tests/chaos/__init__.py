"""Chaos: real processes, seeded faults, and a judge outside of the system. See docs/testing-chaos.md."""
