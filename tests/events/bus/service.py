"""The definition of the service `bus`."""

from shared.runtime.service import Queue, Service

service = Service("bus", title="Bus", queues=(Queue("default"), Queue("handlers")), package="tests.events.bus")
