"""The definition of the notifications service."""

from shared.runtime.service import Queue, Service

service = Service(
    "notifications",
    title="Notifications",
    queues=(
        Queue("mail", provider="smtp"),
        Queue("webhooks_out", per_tenant=4),
        Queue("models", provider="model", per_tenant=2),
        Queue("default"),
        Queue("handlers"),
    ),
)
