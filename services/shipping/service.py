"""The definition of the shipping service."""

from shared.runtime.service import Queue, Service

service = Service(
    "shipping",
    title="Shipping",
    queues=(
        # What spends money waits behind nothing else, and no tenant takes all places.
        Queue("labels", provider="shippo", per_tenant=4),
        Queue("shippo", provider="shippo", per_tenant=4),
        # Files come from another host than the API; they are not held back when that one is down.
        Queue("files", per_tenant=4),
        Queue("webhooks"),
        Queue("default"),
        Queue("handlers"),
    ),
)
