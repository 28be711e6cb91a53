"""How a run of a job may end, other than by returning.

Actors raise these; whatever else they raise counts as `Retry`. Errors of `shared.outbound` are
translated here, so that an actor need not catch what a provider did.

    returns a value   done; the value (JSON) is the job's result
    Skip              done, with the reason why there was nothing to do
    Retry             failed for now: the retry schedule decides
    Unknown           sent, no answer: the retry schedule decides, and the next run looks before it leaps
    GiveUp            no retry can mend it: the job fails and alerts at once
    Snooze            not yet: runs again later, burns no attempt
    Continue          a slice is done: runs on at once from its checkpoint, burns no attempt
    Cancelled         somebody asked for the job to stop
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

__all__ = [
    "Cancelled",
    "Continue",
    "GiveUp",
    "Outcome",
    "Retry",
    "Skip",
    "Snooze",
    "Superseded",
    "Unknown",
]


class Outcome(Exception):
    """How a run ended. `code` is a key of the service's failures; `fields` fill its sentences."""

    name = "outcome"

    def __init__(self, code: str, detail: str = "", **fields: Any) -> None:
        super().__init__(detail or code)
        self.code = code
        self.detail = detail
        self.fields = fields


class Retry(Outcome):
    """The run failed; a later one may do better. `delay` (seconds) replaces the schedule's next delay."""

    name = "retry"

    def __init__(self, code: str, detail: str = "", *, delay: float | None = None, **fields: Any) -> None:
        super().__init__(code, detail, **fields)
        self.delay = delay


class Unknown(Retry):
    """Something was sent and no answer came; whether it took effect is not known."""

    name = "unknown"


class GiveUp(Outcome):
    """No retry can mend this: a rejected address, a revoked token."""

    name = "gave_up"


class Skip(Outcome):
    """There was nothing to do; the job has succeeded, and `code` says why it did nothing."""

    name = "skipped"


class Snooze(Outcome):
    """Not yet. Runs again at `until` or after `delay` seconds, and burns no attempt."""

    name = "snoozed"

    def __init__(
        self,
        code: str,
        detail: str = "",
        *,
        delay: float | None = None,
        until: datetime | None = None,
        **fields: Any,
    ) -> None:
        super().__init__(code, detail, **fields)
        self.until = until if until is not None else datetime.now(UTC) + timedelta(seconds=delay or 0)


class Continue(Snooze):
    """A slice of a long job is done; it goes on from its checkpoint as soon as its turn comes."""

    name = "continued"

    def __init__(self, code: str = "next_slice") -> None:
        super().__init__(code, delay=0)


class Cancelled(Outcome):
    """The job stops because somebody asked it to."""

    name = "cancelled"

    def __init__(self, detail: str = "") -> None:
        super().__init__("cancelled", detail)


class Superseded(Exception):
    """This run was taken from its worker, and another may have begun: nothing that it wrote counts."""
