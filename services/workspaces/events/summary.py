"""The figures that other services have counted, kept for dashboards."""

from __future__ import annotations

from services.workspaces.summaries import keep
from shared.events.contracts.imports import ImportsSummaryCounted
from shared.events.contracts.shipping import ShippingSummaryCounted
from shared.jobs import Event, handler

__all__ = ["note_imports", "note_shipping"]


@handler(ShippingSummaryCounted)
def note_shipping(event: Event[ShippingSummaryCounted]) -> None:
    """Keep what shipping has counted."""
    keep("shipping", event)


@handler(ImportsSummaryCounted)
def note_imports(event: Event[ImportsSummaryCounted]) -> None:
    """Keep what imports has counted."""
    keep("imports", event)
