"""From bytes to checked rows, and back to a file that can be mended. Pure: no database, no HTTP."""
