"""Why a picture cannot be had, in words for whoever wrote its URL into a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["TEXTS", "NotAPicture"]


class NotAPicture(Exception):
    """This is no picture that we show, and trying again would not make it one. `code` is a key of `TEXTS`."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code = code
        self.detail = detail


TEXTS: Final[Mapping[str, str]] = {
    # What is at the address is not for us.
    "image_not_supported": "There is no picture at this address. We take JPEG, PNG, GIF and WEBP.",
    "image_too_large": "The picture is larger than pictures may be. Make it smaller.",
    "image_too_many_pixels": "The picture has more pixels than pictures may have. Make it smaller.",
    "image_broken": "The picture is damaged or incomplete. Save it anew and put it back.",
    # The address itself.
    "url_not_allowed": "The address does not lead to a public website. Use one that everybody can open.",
    "url_not_found": "There is nothing at this address any more. Correct the address.",
    "url_not_public": "The website shows the picture to people it knows only. Use an address that everybody can open.",
    "url_refused": "The website refused to give us the picture. Use another address.",
    "redirect_refused": "The address leads on to another one that is not safe. Use the final address.",
    "too_many_redirects": "The address leads on from one to the next too often. Use the final address.",
    "encoding_refused": "The website sends the picture in a form that we did not ask for. Use another address.",
    # What may pass.
    "url_host_unknown": "There is no website of this name at the moment. We try again.",
    "url_unreachable": "The website cannot be reached at the moment. We try again.",
    "url_timeout": "The website did not send the picture in time. We try again.",
    "provider_unavailable": "The website has a problem at the moment. We try again.",
    "provider_rate_limited": "The website asks us to come more slowly. We try again.",
    "trouble": "We could not look at the picture at the moment. We try again.",
    # The end of that.
    "image_gave_up": "We tried many times to get the picture, in vain. Check the address.",
    "cancelled": "Fetching the picture was cancelled.",
}
"""A sentence or two for each code that an image may carry."""
