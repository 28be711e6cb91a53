"""A service made for tests of events: it tells of things, and handles what it and others tell."""
