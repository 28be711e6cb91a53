"""The ambient context: nests, restores, refuses unknown names, and stays out of other threads."""

import threading
from dataclasses import FrozenInstanceError, fields

import pytest

import shared.context
from shared.context import SYSTEM, Context, current, set_process_defaults, use


@pytest.fixture(autouse=True)
def _defaults(monkeypatch):
    monkeypatch.setattr(shared.context, "_defaults", Context())


def test_outside_of_any_work_nothing_is_known():
    assert Context() == current()
    assert current().tenant_id is None
    assert not current().in_request


def test_changes_hold_within_and_are_gone_after():
    with use(tenant_id="t-1", job_id="j-1", attempt=2) as context:
        assert context is current()
        assert (current().tenant_id, current().job_id, current().attempt) == ("t-1", "j-1", 2)
    assert Context() == current()


def test_what_is_not_named_is_inherited():
    with use(tenant_id="t-1", in_request=True), use(job_id="j-1"):
        assert current() == Context(tenant_id="t-1", in_request=True, job_id="j-1")


def test_an_exception_restores_the_context_too():
    with pytest.raises(RuntimeError), use(tenant_id=SYSTEM):
        raise RuntimeError
    assert current().tenant_id is None


def test_an_unknown_name_is_refused_at_once():
    with pytest.raises(TypeError, match=r"not a field of Context: tenant$"):
        use(tenant="t-1")


def test_the_context_cannot_be_changed_in_place():
    with use(tenant_id="t-1") as context, pytest.raises(FrozenInstanceError):
        context.tenant_id = "t-2"


def test_a_copy_made_the_fast_way_is_a_whole_context():
    with use(tenant_id="t-1") as context:
        assert {field.name for field in fields(Context)} == set(vars(context))
        assert hash(context) == hash(Context(tenant_id="t-1"))


def test_a_new_thread_starts_from_the_defaults_of_the_process():
    set_process_defaults(service="shipping")
    seen = []
    with use(tenant_id="t-1"):
        thread = threading.Thread(target=lambda: seen.append(current()))
        thread.start()
        thread.join()
    assert [Context(service="shipping")] == seen


def test_the_same_object_may_be_entered_again_after_leaving():
    again = use(tenant_id="t-1")
    for _ in range(2):
        with again:
            assert current().tenant_id == "t-1"
        assert current().tenant_id is None
