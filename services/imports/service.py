"""The definition of the imports service."""

from shared.runtime.service import Queue, Service

service = Service(
    "imports",
    title="Imports",
    queues=(
        # A file of any size is one job at a time; two of a tenant share the workers with everybody else's.
        Queue("imports", per_tenant=2),
        # Pictures come from anywhere, at most two at a time from one host; a large catalog has many.
        Queue("images", per_tenant=8),
        # An ERP takes its time; none holds up another tenant's, nor is one that is down asked by many.
        Queue("erp", provider="erp", per_tenant=2),
        Queue("default"),
        Queue("handlers"),
    ),
)
