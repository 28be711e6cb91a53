"""A second service made for tests: it hears what `bus` tells."""
