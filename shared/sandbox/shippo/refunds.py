"""Refunds of unused labels.

https://github.com/goshippo/shippo-python-sdk docs/models/components/refund.md, refundstatus.md
"""

from typing import TYPE_CHECKING, Any

from shared.sandbox.web import HttpError, Request, Response, Route, reply

from .objects import Objects, account_of, paginate, require
from .transactions import Transactions

if TYPE_CHECKING:
    from shared.sandbox.core import Core


class Refunds(Objects):
    kind = "refund"

    def __init__(self, core: "Core", transactions: Transactions):
        super().__init__(core)
        self._transactions = transactions

    def routes(self) -> list[Route]:
        return [
            Route("POST", "/refunds", self.create, frozenset({"refund_rejected"}), ("refunds", "post")),
            Route("GET", "/refunds", self.index, limit=("refunds", "list")),
            Route("GET", "/refunds/{id}", self.read, limit=("refunds", "one")),
        ]

    def create(self, request: Request) -> Response:
        """Ask for a refund. It is decided after `settle_seconds` (with Shippo: within 14 business days).

        The transaction goes SUCCESS → REFUNDPENDING → REFUNDED (entered in the ledger) or REFUNDREJECTED.
        Asking again, or for what was never bought, is refused with 400; its wording is not public.
        """
        account, data = account_of(request), request.json()
        require(data, "transaction")
        key = str(data["transaction"])
        if self.core.books.get(account, "transaction", key) is None:
            raise HttpError(400, {"transaction": [f"Transaction with supplied object_id {key} not found."]})
        if self._transactions.set_status(account, key, "REFUNDPENDING", expect="SUCCESS") is None:
            raise HttpError(400, {"transaction": ["The transaction cannot be refunded in its status."]})
        status = "PENDING" if data.get("async") is False else "QUEUED"
        refund = {**self.header(account), "status": status, "transaction": key, "open": True}
        rejected = request.fault is not None and request.fault.kind == "refund_rejected"
        self.core.books.save(account, self.kind, refund["object_id"], refund)
        self._decide_later(account, refund, rejected)
        return reply(_shown(refund), 201)

    def index(self, request: Request) -> Response:
        found = self.core.books.find(account_of(request), self.kind)[::-1]
        return paginate(request, [_shown(refund) for refund in found])

    def read(self, request: Request, id: str) -> Response:
        return reply(_shown(self.owned(request, id)))

    def resume(self) -> None:
        for account, refund in self.core.books.find_everywhere(self.kind, open=True):
            self._decide_later(account, refund, rejected=False)

    def _decide_later(self, account: str, refund: dict[str, Any], rejected: bool) -> None:
        def decide() -> None:
            key = refund["transaction"]
            if rejected:
                self._transactions.set_status(account, key, "REFUNDREJECTED", expect="REFUNDPENDING")
            else:
                self._transactions.set_status(account, key, "REFUNDED", "REFUNDPENDING", entry_kind="refund")
            status = "ERROR" if rejected else "SUCCESS"
            changes = {"status": status, "open": False, "object_updated": self.core.clock.iso()}
            self.core.books.change(account, self.kind, refund["object_id"], changes)

        self.core.scheduler.later(self.core.options.settle_seconds, decide)


def _shown(refund: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in refund.items() if name != "open"}
