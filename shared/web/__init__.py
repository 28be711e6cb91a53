"""The Flask kit from which every service's HTTP API is made.

    from shared.web import Api, Page, accepted, created

    api = Api("shipping")

    @api.get("/v1/orders")
    def list_orders(query: OrderQuery) -> Page[OrderView]: ...

    @api.post("/v1/orders/<uuid:order_id>/labels", role=("owner", "manager"), idempotency="required", status=202)
    def buy_label(order_id: UUID, body: BuyLabel):
        with unit_of_work() as session:
            ...
            return accepted(purchase_label.send(label_id=label.id))

What an operation takes, who may call it, what it answers and which problems it raises is one declaration;
`create_app` makes an app of it. How the API behaves towards clients is written in docs/reference/http.md.
"""

from shared.web.answers import accepted, created
from shared.web.api import Answer, Api
from shared.web.app import WebSettings, create_app, runtime
from shared.web.auth import Identity, Signer
from shared.web.conditional import etag, require_match
from shared.web.pages import Page, PageQuery, paginate
from shared.web.problems import BadRequest, Conflict, FieldError, Forbidden, NotFound, Problem, Unprocessable

__all__ = [
    "Answer",
    "Api",
    "BadRequest",
    "Conflict",
    "FieldError",
    "Forbidden",
    "Identity",
    "NotFound",
    "Page",
    "PageQuery",
    "Problem",
    "Signer",
    "Unprocessable",
    "WebSettings",
    "accepted",
    "create_app",
    "created",
    "etag",
    "paginate",
    "require_match",
    "runtime",
]
