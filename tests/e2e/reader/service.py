"""The definition of the reader."""

from shared.runtime.service import Queue, Service

service = Service("reader", title="Reader", queues=(Queue("handlers"),), package="tests.e2e.reader")
