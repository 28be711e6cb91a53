"""What the reader does when a label was bought: it takes note, in a job of its own."""

from shared.events.contracts.shipping import LabelPurchased
from shared.jobs import Event, handler

__all__ = ["NOTED", "note_label"]

NOTED: list[str] = []


@handler(LabelPurchased)
def note_label(event: Event[LabelPurchased]) -> None:
    NOTED.append(event.subject)
