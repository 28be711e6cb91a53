"""The main job of the product, as a story: two hundred orders, and a carrier on a bad day.

`backroom demo` runs it. Everything goes over HTTP as the console's clicks do: the orders of a file are
entered, their addresses checked, a label bought for each by one click per workspace, and then clicked
again. The carrier's stand-in is slow, fails, and charges and then hangs up. At the end the carrier's own
books are held against ours, cent by cent.
"""

from services.shipping.demo.story import ENVIRONMENT, run

__all__ = ["CHAPTERS", "ENVIRONMENT"]

CHAPTERS = {30: run}
"""By their place in the whole story."""
