"""What people are told when a job of workspaces fails: what happened, what it means, what we do, what they can do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from shared.jobs import FailureText

__all__ = ["FAILURES"]

_NOTHING_TAKEN: Final = "The workspace stays as it is, and nothing was taken away from anybody."
_ASK_HOURLY: Final = "We ask again every hour."

FAILURES: Final[Mapping[str, FailureText]] = {
    "address_unusable": FailureText(
        what="{email} is no address to which mail can be sent.",
        meaning="Nobody was invited for it.",
        doing="We have stopped, since trying again would end the same way.",
        action="Correct the address and invite this person by hand.",
    ),
    "plan_limit_reached": FailureText(
        what="The workspace has as many members as its plan allows: {limit}.",
        meaning="{email} was not invited.",
        doing="We keep the invitation, so that it can be made up for.",
        action="Disable a member who has left, or choose a larger plan, then press Retry.",
    ),
    "provider_unavailable": FailureText(
        what="Paddle did not say whether the workspace is paid for.",
        meaning=_NOTHING_TAKEN,
        doing=_ASK_HOURLY,
        action="Nothing, unless Paddle stays silent for a day. Then look at its status page.",
    ),
    "provider_not_authorized": FailureText(
        what="Paddle no longer accepts our access.",
        meaning=_NOTHING_TAKEN,
        doing=_ASK_HOURLY,
        action="Make a new key at Paddle and put it into the settings.",
    ),
    "provider_refused": FailureText(
        what="Paddle refused to say whether the workspace is paid for.",
        meaning=_NOTHING_TAKEN,
        doing=_ASK_HOURLY,
        action="Check at Paddle that our key may read subscriptions.",
    ),
    "subscription_unreadable": FailureText(
        what="Paddle answered about a subscription in a way that we do not understand.",
        meaning=_NOTHING_TAKEN,
        doing=_ASK_HOURLY,
        action="Send our engineers the reference of this job.",
    ),
    "subscription_unknown": FailureText(
        what="Paddle does not know a subscription that it once told us of.",
        meaning=_NOTHING_TAKEN,
        doing=_ASK_HOURLY,
        action="Check that the settings name the account at Paddle in which the workspace was bought.",
    ),
    "billing_not_configured": FailureText(
        what="We have no access to Paddle, so we cannot ask whether the workspace is paid for.",
        meaning=_NOTHING_TAKEN,
        doing=_ASK_HOURLY,
        action="Put a key of Paddle into the settings.",
    ),
    "billing_unreadable": FailureText(
        what="Paddle told us of a subscription in a way that we do not understand.",
        meaning="What has become of the subscription is not known here yet.",
        doing="We kept the message for our engineers.",
        action="Send our engineers the reference of this job. It can be retried once this is mended.",
    ),
    "workspace_archived": FailureText(
        what="Somebody pays for a workspace that is archived.",
        meaning="The workspace is still closed. An archived one does not open by itself.",
        doing="Nothing more until an operator decides.",
        action="Restore the workspace, or give the money back at Paddle.",
    ),
    "summary_stale": FailureText(
        what="For more than three hours nobody has counted what dashboards show of: {parts}.",
        meaning="Dashboards show older figures, and say so. No order, label or file is touched by it.",
        doing="We look again every hour, and this goes away when somebody counts again.",
        action="Check that the services of these names and their schedulers run.",
    ),
}
