"""The definition of the workspaces service."""

from shared.runtime.service import Queue, Service

service = Service(
    "workspaces",
    title="Workspaces",
    queues=(Queue("webhooks"), Queue("default"), Queue("handlers")),
)
