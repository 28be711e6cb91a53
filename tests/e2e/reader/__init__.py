"""A service that only reads what others tell."""
