"""Workspaces' work in the back room. Each module's docstring says what its jobs promise."""

__all__: list[str] = []
