"""Addresses and their validation.

https://github.com/goshippo/shippo-python-sdk docs/models/components/address.md, addresscreaterequest.md

Validation is deterministic here: an address is not deliverable if its zip is 00000 or its street contains
"Nowhere"; the other zips of an invented country pass.
"""

from typing import Any

from shared.sandbox.web import HttpError, Request, Response, Route, reply

from .objects import Objects, account_of, checked_metadata, paginate, require

#: "Required for purchase" in addresscreaterequest.md; the state only in these countries.
FOR_PURCHASE = ("name", "street1", "city", "zip", "country")
STATE_COUNTRIES = ("US", "CA", "AU")
LINES = ("street1", "street2", "street3")
LINE_LENGTH = 35

_FIELDS = ("name", "company", "street_no", *LINES, "city", "state", "zip", "country", "phone", "email")


class Addresses(Objects):
    kind = "address"

    def routes(self) -> list[Route]:
        return [
            Route("POST", "/addresses", self.create, limit=("addresses", "post")),
            Route("GET", "/addresses", self.index, limit=("addresses", "list")),
            Route("GET", "/addresses/{id}", self.read, limit=("addresses", "one")),
            Route("GET", "/addresses/{id}/validate", self.validate, limit=("addresses", "one")),
        ]

    def create(self, request: Request) -> Response:
        return reply(self.add(account_of(request), request.json()), 201)

    def index(self, request: Request) -> Response:
        return paginate(request, self.core.books.find(account_of(request), self.kind)[::-1])

    def read(self, request: Request, id: str) -> Response:
        return reply(self.owned(request, id))

    def validate(self, request: Request, id: str) -> Response:
        """The address with its validation results."""
        address = self.owned(request, id)
        results = {"validation_results": validation(address)}
        return reply(self.core.books.change(account_of(request), self.kind, id, results))

    def add(self, account: str, data: dict[str, Any]) -> dict[str, Any]:
        """A new address of the account. Raises HttpError 400 without a country or with too long a line."""
        require(data, "country")
        long = [name for name in LINES if len(str(data.get(name) or "")) > LINE_LENGTH]
        if long:
            text = f"Ensure this field has no more than {LINE_LENGTH} characters."
            raise HttpError(400, {name: [text] for name in long})
        address = {
            **self.header(account),
            **{name: data.get(name) or "" for name in _FIELDS},
            "is_residential": data.get("is_residential"),
            "metadata": checked_metadata(data),
        }
        address["is_complete"] = not missing_for_purchase(address)
        address["validation_results"] = validation(address) if data.get("validate") is True else {}
        self.core.books.save(account, self.kind, address["object_id"], address)
        return address

    def resolve(self, account: str, field: str, value: Any) -> dict[str, Any]:
        """The address that a request gives inline or by id. Raises HttpError 400 under the field's name."""
        if isinstance(value, dict):
            try:
                return self.add(account, value)
            except HttpError as refusal:
                raise HttpError(400, {field: [refusal.body]}) from refusal
        address = self.core.books.get(account, self.kind, str(value))
        if address is None:
            raise HttpError(400, {field: [f"Address with supplied object_id {value} not found."]})
        return address


def missing_for_purchase(address: dict[str, Any]) -> list[str]:
    """Names of the fields without which a label cannot be bought, although rates can be had."""
    needed = FOR_PURCHASE + (("state",) if address.get("country") in STATE_COUNTRIES else ())
    return [name for name in needed if not address.get(name)]


def validation(address: dict[str, Any]) -> dict[str, Any]:
    """{is_valid, messages: [{source, code, type, text}]}"""
    messages = []
    if address["zip"] == "00000":
        messages.append(("invalid_postal_code", "The postal code was not found."))
    if "nowhere" in address["street1"].lower():
        messages.append(("unknown_street", "The street was not found in this city."))
    messages += [("missing_field", f"The field {name} is missing.") for name in missing_for_purchase(address)]
    return {
        "is_valid": not messages,
        "messages": [
            {"source": "Shippo Address Validator", "code": code, "type": "address_error", "text": text}
            for code, text in messages
        ],
    }
