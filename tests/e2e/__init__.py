"""Several services together, over real HTTP."""
