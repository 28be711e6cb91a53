"""The definition of the service `other`."""

from shared.runtime.service import Service

service = Service("other", title="Other", package="tests.events.other")
