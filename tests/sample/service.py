"""The definition of the sample service."""

from shared.runtime.service import Queue, Service

service = Service(
    "sample",
    title="Sample",
    queues=(
        Queue("work"),
        Queue("leases"),
        Queue("calls", provider="elsewhere", per_tenant=4),
        Queue("default"),
        Queue("handlers"),
    ),
    package="tests.sample",
)
