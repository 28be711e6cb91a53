"""The definition of the workspaces service."""

from shared.runtime.service import Queue, Service

service = Service(
    "workspaces",
    title="Workspaces",
    queues=(Queue("billing", provider="paddle"), Queue("webhooks"), Queue("default"), Queue("handlers")),
)
