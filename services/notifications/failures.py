"""What people are told when a job of notifications fails: what happened, what it means, what we do, what they do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from shared.jobs import FailureText

__all__ = ["FAILURES", "WAITING"]

_NOT_SENT: Final = "The mail was not sent."
_KEPT: Final = "It is kept for a month and can be sent again."
_TRIED: Final = "We tried for more than three days and then stopped."
_NO_WATCH: Final = "The watch was not made."
_ASKED: Final = "We have stopped, since asking again would bring the same answer."
_TRIED_FEW: Final = "We tried several times over a few minutes and then stopped."
_CHECK_ADDRESS: Final = "Ask the owner of the workspace to check the address of the language model, then press Retry."

WAITING: Final[Mapping[str, str]] = {
    "endpoint_busy": "Other messages are being sent to the same system; this one follows.",
    "endpoint_resting": "The system has not been taking messages; we try again a little later.",
    "provider_rate_limited": "The other side wants us to come back a little later.",
}
"""Why a job of ours has put itself off, for whoever asks."""

FAILURES: Final[Mapping[str, FailureText]] = {
    "webhook_refused": FailureText(
        what="Your own system did not accept a message.",
        meaning=_KEPT,
        doing=_TRIED,
        action="See in the log of the endpoint what it answered, mend it, and press Retry.",
    ),
    "webhook_unreachable": FailureText(
        what="Your own system did not answer when we had a message for it.",
        meaning=_KEPT,
        doing=_TRIED,
        action="Check that it can be reached from the internet and answers quickly, then press Retry.",
    ),
    "webhook_address": FailureText(
        what="The address of your own system does not lead to a server on the internet.",
        meaning="Nothing was sent there. " + _KEPT,
        doing=_TRIED,
        action="Enter an address that can be reached from everywhere, then press Retry.",
    ),
    "rule_not_understood": FailureText(
        what="We could not make a rule of what you wrote.",
        meaning=_NO_WATCH,
        doing="We asked twice and got nothing that can be checked.",
        action="Write it in a simpler way, such as: tell me when an order is in Processing for more than 3 days.",
    ),
    "rule_not_possible": FailureText(
        what="What you wrote cannot be watched for.",
        meaning=_NO_WATCH,
        doing="We can look at where orders are, for how long, whom they are for, and how many there are.",
        action="Write another watch, such as: tell me when an order is in Processing for more than 3 days.",
    ),
    "model_not_connected": FailureText(
        what="There is no language model that could read what you wrote.",
        meaning=_NO_WATCH,
        doing="We wait until one is connected.",
        action="Ask the owner of the workspace to connect one, then press Retry.",
    ),
    "model_not_authorized": FailureText(
        what="The language model does not accept our access.",
        meaning=_NO_WATCH,
        doing=_ASKED,
        action="Ask the owner of the workspace to connect it again, then press Retry.",
    ),
    "model_quota": FailureText(
        what="The account for the language model is used up.",
        meaning=_NO_WATCH,
        doing=_ASKED,
        action="Ask the owner of the workspace to look into that account, then press Retry.",
    ),
    "model_not_found": FailureText(
        what="The language model that is connected does not exist there.",
        meaning=_NO_WATCH,
        doing=_ASKED,
        action="Ask the owner of the workspace to check its address and its name, then press Retry.",
    ),
    "model_answer_malformed": FailureText(
        what="What was connected as a language model does not answer like one.",
        meaning=_NO_WATCH,
        doing=_ASKED,
        action="Ask the owner of the workspace to check its address, then press Retry.",
    ),
    "answer_too_large": FailureText(
        what="The language model sent far more than a rule has.",
        meaning=_NO_WATCH,
        doing=_ASKED,
        action="Press Retry, or write it in another way.",
    ),
    "encoding_refused": FailureText(
        what="The language model sent a compressed answer, although we want it plain.",
        meaning=_NO_WATCH,
        doing=_ASKED,
        action=_CHECK_ADDRESS,
    ),
    "invalid_request": FailureText(
        what="No question can be made for the address of the language model.",
        meaning=_NO_WATCH,
        doing="Nothing more.",
        action=_CHECK_ADDRESS,
    ),
    "url_not_allowed": FailureText(
        what="The address of the language model does not lead to a server on the internet.",
        meaning="It was not asked. " + _NO_WATCH,
        doing="Nothing more.",
        action=_CHECK_ADDRESS,
    ),
    "url_host_unknown": FailureText(
        what="Nobody knows the address of the language model.",
        meaning=_NO_WATCH,
        doing=_TRIED_FEW,
        action=_CHECK_ADDRESS,
    ),
    "url_timeout": FailureText(
        what="The address of the language model could not be looked up in time.",
        meaning=_NO_WATCH,
        doing=_TRIED_FEW,
        action="Press Retry in a few minutes.",
    ),
    "mail_recipient_refused": FailureText(
        what="The mail server of the recipient says that there is no such mailbox, or that it takes nothing.",
        meaning="The mail was not delivered.",
        doing="We write to this address no more, until you say so.",
        action="Check the address. If it is right, take it off the list of refused addresses and press Retry.",
    ),
    "mail_refused": FailureText(
        what="The mail server refused the mail, for a reason that is not the recipient's address.",
        meaning="The mail was not delivered, and the same mail would be refused again.",
        doing="We recorded what the mail server said.",
        action="Look at its reason in the log of mails, and press Retry once that is settled.",
    ),
    "mail_server_away": FailureText(
        what="The mail server could not be reached, or did not take part.",
        meaning=_NOT_SENT,
        doing="We tried several times and stopped.",
        action="Press Retry in a few minutes.",
    ),
    "mail_deferred": FailureText(
        what="The mail server asked us to come back later, each time that we tried.",
        meaning=_NOT_SENT,
        doing="We tried several times and stopped.",
        action="Press Retry in an hour.",
    ),
    "mail_outcome_unknown": FailureText(
        what="We handed the mail over twice, and the mail server never said whether it took it.",
        meaning="It may have arrived once, twice or not at all.",
        doing="We do not send it a third time by ourselves.",
        action="Ask the recipient. If nothing arrived, press Retry.",
    ),
    "mail_unreadable": FailureText(
        what="The mail could not be written from what we kept for it.",
        meaning=_NOT_SENT,
        doing="We recorded the details for our engineers.",
        action="Send us the reference of this job.",
    ),
    "address_invalid": FailureText(
        what="No mail can be sent to this address.",
        meaning=_NOT_SENT,
        doing="Nothing more.",
        action="Correct the address where it was entered.",
    ),
    "address_not_supported": FailureText(
        what="The part of the address before the @ has letters that few mail servers take.",
        meaning=_NOT_SENT,
        doing="Nothing more.",
        action="Ask for an address that is written with plain letters before the @.",
    ),
}
