"""A catalog comes in as a file of five thousand rows, and everything is killed in the middle of it.

`backroom demo` runs it. The import has a Backroom of its own, in a process that can be killed with SIGKILL and started
again. The file has what files have: rows that were pasted twice, titles that are missing, prices with a currency, and
pictures at addresses that lead nowhere. At the end every row is accounted for, once.
"""

from services.imports.demo.story import ENVIRONMENT, run

__all__ = ["CHAPTERS", "ENVIRONMENT"]

CHAPTERS = {20: run}
"""By their place in the whole story."""
