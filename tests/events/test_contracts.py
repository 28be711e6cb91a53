"""Contracts: whoever declares one is told at once what it lacks; what is told keeps to them."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from pydantic import ConfigDict

from shared.events import EventContract, example
from shared.events.contracts import NotAContract, contract, contracts, services
from shared.events.contracts.contract import service_of
from shared.events.contracts.jobs import CircuitOpened, JobFailed, library_contracts, of_service
from shared.testing.service import ServiceUnderTest
from tests.sample import jobs
from tests.sample.service import service as sample_service

CONTRACTS = list(contracts().values())


@pytest.mark.parametrize("declared", CONTRACTS, ids=lambda declared: declared.type)
def test_an_example_survives_the_journey(declared: type[EventContract]) -> None:
    assert declared.model_validate_json(declared.example().model_dump_json()) == declared.example()
    assert declared.__doc__


@pytest.mark.parametrize("declared", CONTRACTS, ids=lambda declared: declared.type)
def test_readers_are_tolerant(declared: type[EventContract]) -> None:
    data = declared.example().model_dump(mode="json") | {"a_field_of_tomorrow": 1}
    assert declared.model_validate(data) == declared.example()
    assert declared.model_config["frozen"]


@pytest.mark.parametrize("service", services())
def test_a_module_holds_the_types_of_its_service_alone(service: str) -> None:
    module = importlib.import_module(f"shared.events.contracts.{service}")
    declared = [c for c in CONTRACTS if c.__module__ == module.__name__]
    assert declared
    assert {service_of(c.type) for c in declared} == {service}


def declare(**members: Any) -> type:
    return type("Declared", (EventContract,), {"__module__": __name__, "__annotations__": {}, **members})


@pytest.mark.parametrize(
    "event_type",
    [
        "label.purchased",
        "backroom.shipping.label.purchased",
        "backroom.shipping.label.purchased.v0",
        "backroom.Shipping.label.purchased.v1",
        "backroom.shipping.label.purchased.v1.x",
    ],
)
def test_a_malformed_type_is_refused(event_type: str) -> None:
    with pytest.raises(NotAContract, match="is not backroom"):
        declare(type=event_type, model_config=example())


def test_a_taken_type_is_refused() -> None:
    with pytest.raises(NotAContract, match="LabelPurchased"):
        declare(type="backroom.shipping.label.purchased.v1", model_config=example())


def test_a_contract_without_an_example_is_refused() -> None:
    with pytest.raises(NotAContract, match="no example"):
        declare(type="backroom.bus.thing.unexplained.v1", model_config=ConfigDict())


def test_a_class_without_a_type_only_shares_fields() -> None:
    class Shared(EventContract):
        name: str

    class Told(Shared):
        type: ClassVar[str] = "backroom.bus.thing.shared.v1"
        model_config = example(name="x")

    assert Told.example().name == "x"
    assert contract("backroom.bus.thing.shared.v1") is Told


def test_an_unknown_type_is_nobodys() -> None:
    with pytest.raises(LookupError, match=r"backroom\.bus\.thing\.undreamt\.v1"):
        contract("backroom.bus.thing.undreamt.v1")


def test_the_library_tells_for_each_service_under_a_type_of_its_own() -> None:
    assert of_service(JobFailed, "shipping").type == "backroom.shipping.job.failed.v1"
    assert of_service(CircuitOpened, "crm").type == "backroom.crm.circuit.opened.v1"
    assert of_service(JobFailed, "shipping") is of_service(JobFailed, "shipping")
    assert len({declared.type for declared in library_contracts("shipping")}) == len(library_contracts("shipping"))


def test_the_alert_of_a_failed_job_keeps_its_contract(service_app: Callable[..., ServiceUnderTest]) -> None:
    sample = service_app(sample_service)
    job = sample.run_job(jobs.refuse, key="x")
    (event,) = sample.published("backroom.sample.job.failed.v1")
    told = of_service(JobFailed, "sample").model_validate(event.data)
    assert told.job_id == str(job.id) == event.subject
    assert told.code == "address_rejected"
    assert told.attempts == 1
    assert event.sequence == 1
