"""What people are told when a job of shipping fails: what happened, what it means, what we do, what they can do.

A test keeps this complete: every code that a job or Shippo's client can end with is here or among the
library's own (`shared.jobs.failures.COMMON`), in sentences without codes and without the words of engineers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from shared.jobs import FailureText

__all__ = ["FAILURES", "WAITING"]

_NOTHING_BOUGHT: Final = "No label was bought, and you were not charged."
_STOPPED: Final = "We have stopped, since asking again would bring the same answer."

WAITING: Final[Mapping[str, str]] = {
    "label_waiting": "The carrier is still preparing the label; we look again then.",
    "refund_undecided": "The carrier has not decided about the refund yet; we ask again then.",
}
"""Why a job of ours has put itself off, for whoever asks."""

FAILURES: Final[Mapping[str, FailureText]] = {
    "shippo_not_connected": FailureText(
        what="No Shippo account is connected to this workspace.",
        meaning="Nothing could be asked of any carrier, and nothing was charged.",
        doing="We wait until an account is connected.",
        action="Ask the owner of the workspace to connect Shippo, then press Retry.",
    ),
    "provider_not_authorized": FailureText(
        what="Shippo no longer accepts our access to your account.",
        meaning="Nothing was bought, and nothing can be until the account is connected again.",
        doing="We hold back everything that needs Shippo.",
        action="Ask the owner of the workspace to connect Shippo again, then press Retry.",
    ),
    "provider_unavailable": FailureText(
        what="Shippo did not answer.",
        meaning="What you asked for was not done, and you were not charged.",
        doing="We tried several times over ten minutes and then stopped.",
        action="Press Retry in a few minutes.",
    ),
    "provider_unknown_outcome": FailureText(
        what="Shippo did not say whether it sold us the label.",
        meaning="We cannot tell yet whether you were charged. You will not be charged twice.",
        doing="We look for the label at Shippo every hour for a day, and buy nothing meanwhile.",
        action="Wait for the result, or look into your Shippo account and press Retry if there is no label.",
    ),
    "provider_refused": FailureText(
        what="Shippo refused the request.",
        meaning="What you asked for was not done, and you were not charged.",
        doing=_STOPPED,
        action="Check the details of the order and start again.",
    ),
    "address_rejected": FailureText(
        what="The carrier does not accept an address of order {number}. It says: {carrier_says}.",
        meaning=_NOTHING_BOUGHT,
        doing=_STOPPED,
        action="Correct the address of the order, then press Retry.",
    ),
    "sender_rejected": FailureText(
        what="Shippo does not accept the address from which you ship. It says: {carrier_says}.",
        meaning="The account is not connected yet.",
        doing=_STOPPED,
        action="Correct the sender's address and connect Shippo again.",
    ),
    "carrier_refused": FailureText(
        what="The carrier refused to sell a label for order {number}. It says: {carrier_says}.",
        meaning=_NOTHING_BOUGHT,
        doing=_STOPPED,
        action="Choose another rate, or correct the order and press Retry.",
    ),
    "carrier_away": FailureText(
        what="The carrier did not answer Shippo.",
        meaning=_NOTHING_BOUGHT,
        doing="We tried several times over ten minutes and then stopped.",
        action="Press Retry in a few minutes, or choose another carrier.",
    ),
    "billing_problem": FailureText(
        what="Shippo could not take payment for the label of order {number}. It says: {carrier_says}.",
        meaning=_NOTHING_BOUGHT,
        doing=_STOPPED,
        action="Ask the owner to check the means of payment in the Shippo account, then press Retry.",
    ),
    "rate_expired": FailureText(
        what="The chosen rate for order {number} no longer holds, and the same service now costs more.",
        meaning="No label was bought, since you did not agree to a higher price.",
        doing="We fetched new rates for you to look at.",
        action="Choose one of the new rates and buy the label.",
    ),
    "rate_not_found": FailureText(
        what="Shippo no longer knows the chosen rate for order {number}.",
        meaning=_NOTHING_BOUGHT,
        doing=_STOPPED,
        action="Ask for new rates, choose one and buy the label.",
    ),
    "no_rates": FailureText(
        what="No carrier takes the parcel of order {number}. They say: {carrier_says}.",
        meaning=_NOTHING_BOUGHT,
        doing=_STOPPED,
        action="Check the address and the measures of the parcel, then press Retry.",
    ),
    "invalid_request": FailureText(
        what="Shippo could not read what we sent about order {number}.",
        meaning=_NOTHING_BOUGHT,
        doing="We recorded what was sent for our engineers.",
        action="Check the address and the measures of the parcel, then press Retry.",
    ),
    "not_found": FailureText(
        what="Shippo does not know what we asked about for order {number}.",
        meaning="It may belong to another Shippo account than the one that is connected now.",
        doing=_STOPPED,
        action="Ask the owner which account is connected, then press Retry.",
    ),
    "order_not_open": FailureText(
        what="Order {number} was shipped or cancelled before its label was bought.",
        meaning=_NOTHING_BOUGHT,
        doing="Nothing more.",
        action="Look at the order's state. If it needs a label after all, make a new order.",
    ),
    "order_without_parcel": FailureText(
        what="Order {number} has no parcel yet.",
        meaning=_NOTHING_BOUGHT,
        doing="Nothing more.",
        action="Enter the measures of the parcel, then press Retry.",
    ),
    "label_replaced": FailureText(
        what="Another label for order {number} was asked for since this one failed.",
        meaning="This one was not bought, so that you do not pay twice.",
        doing="The newer label goes its own way.",
        action="Look at the newer label of the order.",
    ),
    "label_still_waiting": FailureText(
        what="Shippo has accepted the purchase for order {number}, but has not finished it within a day.",
        meaning="We cannot tell yet whether you will be charged. You will not be charged twice.",
        doing="We have stopped waiting, and buy nothing meanwhile.",
        action="Look into your Shippo account, or ask Shippo. Press Retry to look once more.",
    ),
    "label_not_bought": FailureText(
        what="The purchase of the label for order {number} came to an end without a label.",
        meaning=_NOTHING_BOUGHT,
        doing="We looked at Shippo to be sure.",
        action="Buy the label again if you still need it.",
    ),
    "label_link_expired": FailureText(
        what="The label file could not be fetched before Shippo's link to it ran out.",
        meaning="The label is bought and valid; only its file is not here yet.",
        doing="We try again every night.",
        action="Press Retry, or print the label from your Shippo account.",
    ),
    "label_unreadable": FailureText(
        what="Shippo gave us a label file that no printer could read.",
        meaning="The label is bought and valid; only its file is not here yet.",
        doing="We try again every night.",
        action="Press Retry, or print the label from your Shippo account.",
    ),
    "answer_too_large": FailureText(
        what="Shippo sent far more than it should have.",
        meaning="What you asked for was not finished.",
        doing="We recorded the details for our engineers.",
        action="Press Retry. If it fails again, send us the reference of this job.",
    ),
    "foreign_url": FailureText(
        what="Shippo pointed us to a place that is not its own.",
        meaning="For safety we did not go there.",
        doing="We recorded the details for our engineers.",
        action="Print the label from your Shippo account, and send us the reference of this job.",
    ),
    "refund_undecided": FailureText(
        what="The carrier has not decided about the refund for order {number} within three weeks.",
        meaning="The money may still come back.",
        doing="We look again every night.",
        action="Ask Shippo how the refund stands.",
    ),
}
