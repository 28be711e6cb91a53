"""`python -m shared.runtime.cli` is `backroom`."""

from shared.runtime.cli import main

main()
