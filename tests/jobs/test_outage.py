"""The database goes away and comes back: nothing is written into a unit of work that never began."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy.exc import OperationalError

from shared.db import Database, unit_of_work
from shared.db.database import current_work
from shared.testing.proxy import TcpProxy
from shared.testing.service import ServiceUnderTest
from tests.sample import jobs
from tests.sample.service import service

Make = Callable[..., ServiceUnderTest]


def test_a_unit_of_work_that_could_not_begin_is_not_joined(service_app: Make) -> None:
    """Given a unit of work that failed to begin, the next one of the same thread commits what it writes."""
    sample = service_app(service)
    proxy = TcpProxy(sample.database_url)
    database = Database(proxy.url)
    proxy.close()

    with pytest.raises(OperationalError), unit_of_work(database=database):
        pass

    assert current_work() is None
    with unit_of_work():
        job = jobs.write.send(key="after the outage")
    assert sample.job(job.message_id).state == "scheduled"
