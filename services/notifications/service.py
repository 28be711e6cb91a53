"""The definition of the notifications service."""

from shared.runtime.service import Queue, Service

service = Service(
    "notifications",
    title="Notifications",
    queues=(
        # Not all places are for one tenant, so that the next one's sign-in finds one free.
        Queue("mail", provider="smtp", per_tenant=4),
        Queue("webhooks_out", per_tenant=4),
        Queue("models", provider="model", per_tenant=2),
        Queue("default"),
        Queue("handlers"),
    ),
)
