"""The definition of the smallest service that spends money."""

from shared.runtime.service import Queue, Service

service = Service(
    "sample",
    title="Chaos sample",
    queues=(Queue("purchases", provider="carrier", per_tenant=4), Queue("default")),
    package="tests.chaos.sample",
)
