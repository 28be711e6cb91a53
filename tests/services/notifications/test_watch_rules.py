"""Rules: what one may say, what it means in words, and that the database answers as plain Python would."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from pydantic import ValidationError
from sqlalchemy import select

from services.notifications.models import Member, Order
from services.notifications.service import service
from services.notifications.watches.checking import check
from services.notifications.watches.models import Watch
from services.notifications.watches.query import conditions, reaches
from services.notifications.watches.rule import Rule, schema
from services.notifications.watches.words import meaning_of, title_of
from shared.db import new_id, unit_of_work
from shared.events.contracts.notifications import WatchTriggered
from shared.testing.service import ServiceUnderTest

NOW = datetime(2026, 3, 31, 12, tzinfo=UTC)
ME = UUID("0199a1b2-7c3d-7e4f-8a5b-6c7d8e9f0c1a")
STATES = ("New", "Processing", "Shipped", "Delivered", "Cancelled")
PARCELS = ("unknown", "pre_transit", "transit", "delivered", "returned", "failure")

# Letters of which both sides know the small ones, and what LIKE would take for more than itself.
TEXTS = st.text(st.sampled_from("abAB12%_\\' \"-;"), min_size=1, max_size=6).filter(lambda text: text.strip())
DAYS = st.one_of(st.integers(0, 12), st.sampled_from([0.5, 1.25, 3.0]))

FILTERS = st.one_of(
    st.fixed_dictionaries(
        {
            "field": st.just("state"),
            "operator": st.sampled_from(["is", "is_not"]),
            "values": st.lists(st.sampled_from(STATES), min_size=1, max_size=3),
        }
    ),
    st.fixed_dictionaries(
        {
            "field": st.just("delivery_status"),
            "operator": st.sampled_from(["is", "is_not"]),
            "values": st.lists(st.sampled_from(PARCELS), min_size=1, max_size=3),
        }
    ),
    st.fixed_dictionaries(
        {
            "field": st.sampled_from(["days_in_state", "days_since_ordered"]),
            "operator": st.sampled_from(["more_than", "less_than"]),
            "days": DAYS,
        }
    ),
    st.fixed_dictionaries(
        {
            "field": st.sampled_from(["recipient_company", "recipient_name", "number"]),
            "operator": st.sampled_from(["is", "contains"]),
            "text": TEXTS,
        }
    ),
    st.fixed_dictionaries({"field": st.just("created_by_me"), "operator": st.just("is"), "value": st.booleans()}),
)
COUNTS = st.fixed_dictionaries(
    {
        "aggregate": st.just("count"),
        "comparator": st.sampled_from(["more_than", "at_least", "equal_to", "at_most", "less_than"]),
        "threshold": st.integers(0, 6),
    }
)
EACH = st.just({"aggregate": "none", "comparator": None, "threshold": None})


def rules(how: st.SearchStrategy[dict[str, Any]], fewest: int = 1) -> st.SearchStrategy[Rule]:
    return st.tuples(st.lists(FILTERS, min_size=fewest, max_size=4), how).map(
        lambda made: Rule.model_validate_json(json.dumps({"entity": "order", "filters": made[0], **made[1]}))
    )


ORDERS = st.fixed_dictionaries(
    {
        "state": st.sampled_from(STATES),
        "delivery_status": st.sampled_from(PARCELS),
        "since": st.integers(0, 12 * 24).map(lambda hours: NOW - timedelta(hours=hours)),
        "ordered_at": st.integers(0, 12 * 24).map(lambda hours: NOW - timedelta(hours=hours)),
        "recipient_company": st.one_of(st.just(""), TEXTS),
        "recipient_name": TEXTS,
        "number": TEXTS,
        "created_by": st.sampled_from([f"user:{ME}", "user:other"]),
    }
)


def fits(made: Rule, one: dict[str, Any], now: datetime = NOW) -> bool:
    """What a rule says of an order, in plain Python and by other means than the query."""
    return all(_fits(each.model_dump(), one, now) for each in made.filters)


def _fits(part: dict[str, Any], one: dict[str, Any], now: datetime) -> bool:
    field = part["field"]
    if "values" in part:
        return (one[field] in part["values"]) == (part["operator"] == "is")
    if "days" in part:
        age = (now - one["since" if field == "days_in_state" else "ordered_at"]) / timedelta(days=1)
        return bool(age > part["days"] if part["operator"] == "more_than" else age < part["days"])
    if "text" in part:
        have, want = one[field].lower(), part["text"].lower()
        return bool(have == want if part["operator"] == "is" else want in have)
    return bool((one["created_by"] == f"user:{ME}") == part["value"])


def reached(made: Rule, count: int) -> bool:
    signs = {"more_than": ">", "at_least": ">=", "equal_to": "==", "at_most": "<=", "less_than": "<"}
    return bool(eval(f"{count} {signs[str(made.comparator)]} {made.threshold}"))  # noqa: S307


@pytest.fixture(scope="module")
def _app(request: pytest.FixtureRequest) -> Iterator[ServiceUnderTest]:
    templates = request.getfixturevalue("_templates")
    with templates.fresh(service) as url, ServiceUnderTest(service, url) as running:
        yield running


@pytest.fixture
def app(_app: ServiceUnderTest) -> Iterator[ServiceUnderTest]:
    with _app.current():
        _app.clear()
        yield _app


def enter(orders: list[dict[str, Any]]) -> list[UUID]:
    rows = [Order(tenant_id="acme", id=new_id(), sequence=1, **one) for one in orders]
    with unit_of_work() as session:
        session.add_all(rows)
    return [row.id for row in rows]


# -- the query -------------------------------------------------------------------------------------------------


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(made=rules(EACH), orders=st.lists(ORDERS, max_size=8))
def test_the_database_answers_as_python_would(app: ServiceUnderTest, made: Rule, orders: list[dict[str, Any]]) -> None:
    app.execute("DELETE FROM orders")
    ids = enter(orders)
    with unit_of_work() as session:
        found = set(session.scalars(select(Order.id).where(*conditions(made, f"user:{ME}", NOW))))
    assert found == {order_id for order_id, one in zip(ids, orders, strict=True) if fits(made, one)}


@given(rules(COUNTS, fewest=0), st.integers(0, 8))
def test_numbers_are_compared_as_they_say(made: Rule, count: int) -> None:
    assert reaches(made, count) == reached(made, count)


@given(rules(st.one_of(EACH, COUNTS)))
def test_values_are_parameters_and_nothing_else(made: Rule) -> None:
    """The statement is the same text whatever the values are."""
    statement = str(select(Order.id).where(*conditions(made, f"user:{ME}", NOW)))
    for part in made.filters:
        for value in (getattr(part, "text", None), *getattr(part, "values", ())):
            # Those two stand in the statement itself.
            assert value in (None, "/", "%") or f"'{value}'" not in statement
    assert "'" not in statement.replace("'/'", "").replace("'%'", "")


# -- edges -----------------------------------------------------------------------------------------------------


class Edges(RuleBasedStateMachine):
    """Orders come, change and go, checks come at any time: told is what is new, and nothing while it lasts."""

    app: ServiceUnderTest

    @initialize(made=rules(EACH), sells=st.booleans())
    def begin(self, made: Rule, sells: bool) -> None:
        self.app.clear()
        self.made, self.now = made, NOW
        self.orders: dict[UUID, dict[str, Any]] = {}
        self.expected: list[int] = []
        self.holding: set[UUID] = set()
        self.role = "sales" if sells else "manager"
        eve = Member(
            tenant_id="acme", id=ME, email="e@x.example", name="E", role=self.role, status="active", sequence=1
        )
        watch = Watch(
            id=new_id(),
            member_id=ME,
            text="…",
            title=title_of(made),
            rule=made.model_dump(mode="json"),
            frequency=15,
            state="active",
            next_run_at=NOW,
        )
        with unit_of_work() as session:
            session.add_all([eve, watch])
        self.watch_id = watch.id

    @rule(one=ORDERS)
    def comes(self, one: dict[str, Any]) -> None:
        (order_id,) = enter([one])
        self.orders[order_id] = one

    @rule(one=ORDERS, data=st.data())
    def changes(self, one: dict[str, Any], data: st.DataObject) -> None:
        if self.orders:
            order_id = data.draw(st.sampled_from(sorted(self.orders)))
            self.orders[order_id] = one
            with unit_of_work() as session:
                row = session.get_one(Order, ("acme", order_id))
                for name, value in one.items():
                    setattr(row, name, value)

    @rule(data=st.data())
    def goes(self, data: st.DataObject) -> None:
        if self.orders:
            order_id = data.draw(st.sampled_from(sorted(self.orders)))
            del self.orders[order_id]
            self.app.execute("DELETE FROM orders WHERE id = :id", id=order_id)

    @rule(crashes=st.booleans())
    def checked(self, crashes: bool) -> None:
        self.now += timedelta(microseconds=1)
        matching = {
            order_id
            for order_id, one in self.orders.items()
            if fits(self.made, one, self.now) and (self.role != "sales" or one["created_by"] == f"user:{ME}")
        }
        if crashes:
            with pytest.raises(InterruptedError):
                self._check(crash=True)
        new = self._check()
        assert new == len(matching - self.holding)
        if matching - self.holding:
            self.expected.append(len(matching - self.holding))
        self.holding = matching

    def _check(self, *, crash: bool = False) -> int:
        with unit_of_work() as session:
            watch, eve = session.get_one(Watch, self.watch_id), session.get_one(Member, ("acme", ME))
            new = check(session, watch, eve, self.now)
            if crash:
                raise InterruptedError
        return new

    @invariant()
    def told_is_what_was_new(self) -> None:
        events = [event.data["matched"] for event in self.app.published(WatchTriggered.type)]
        assert events == self.expected
        assert self.app.query("SELECT count(*) FROM notice_receipts") == [(len(self.expected),)]


def test_told_once_while_it_lasts_and_again_after_a_relapse(app: ServiceUnderTest) -> None:
    Edges.app = app
    run_state_machine_as_test(Edges, settings=settings(max_examples=25, stateful_step_count=12, deadline=None))


# -- what a rule may say ---------------------------------------------------------------------------------------

GOOD: dict[str, Any] = {
    "entity": "order",
    "filters": [{"field": "state", "operator": "is", "values": ["New"]}],
    "aggregate": "none",
    "comparator": None,
    "threshold": None,
}


def _with(**changes: Any) -> dict[str, Any]:
    return {**GOOD, **changes}


def _filter(**changes: Any) -> dict[str, Any]:
    return _with(filters=[{**GOOD["filters"][0], **changes}])


def _text(text: Any) -> dict[str, Any]:
    return _with(filters=[{"field": "number", "operator": "is", "text": text}])


def _days(days: Any) -> dict[str, Any]:
    return _with(filters=[{"field": "days_in_state", "operator": "more_than", "days": days}])


@pytest.mark.parametrize(
    "bad",
    [
        {},
        [],
        _with(entity="member"),
        _with(extra=1),
        _with(filters=[]),
        _with(filters=GOOD["filters"] * 9),
        _with(threshold=3),
        _with(aggregate="count"),
        _with(aggregate="count", comparator="more_than", threshold=-1),
        _with(aggregate="count", comparator="more_than", threshold="3"),
        _with(aggregate="count", comparator="more_than", threshold=10**9),
        _with(aggregate="count", comparator="; DROP TABLE orders", threshold=1),
        _filter(field="tenant_id"),
        _filter(field="created_by", values=["user:x"]),
        _filter(field="state; --"),
        _filter(operator="like"),
        _filter(values=[]),
        _filter(values=["Lost"]),
        _filter(values="New"),
        _filter(sql="1=1"),
        _text(""),
        _text("x" * 101),
        _text("a\x00b"),
        _text("a\nb"),
        _text(7),
        _days(-1),
        _days(1e9),
        _days("3"),
        _days(True),
    ],
    ids=lambda bad: json.dumps(bad)[:60],
)
def test_anything_else_is_no_rule(bad: Any) -> None:
    assert Rule.model_validate_json(json.dumps(GOOD))
    with pytest.raises(ValidationError):
        Rule.model_validate_json(json.dumps(bad))


def test_not_a_number_is_no_number() -> None:
    for text in ("NaN", "Infinity", "1e999"):
        with pytest.raises(ValidationError):
            Rule.model_validate_json(json.dumps(_days(0)).replace('"days": 0', f'"days": {text}'))


@given(rules(st.one_of(EACH, COUNTS)))
def test_a_rule_survives_being_kept_and_is_within_the_schema_for_models(made: Rule) -> None:
    kept = json.loads(json.dumps(made.model_dump(mode="json")))
    assert Rule.model_validate(kept) == made
    known = json.dumps(schema())
    for part in made.filters:
        assert f'"{part.field}"' in known
    for keyword in ("maxLength", "pattern", "minimum", "default", "oneOf", "discriminator"):
        assert f'"{keyword}"' not in known


# -- in words --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "title"),
    [
        ({}, "Orders in New"),
        (
            {"filters": [*_days(3)["filters"], {"field": "state", "operator": "is", "values": ["Processing"]}]},
            "Orders in Processing for more than 3 days",
        ),
        ({"filters": _days(0.5)["filters"]}, "Orders in the same state for more than 12 hours"),
        (
            {
                "filters": [
                    {"field": "state", "operator": "is", "values": ["New", "Processing"]},
                    {"field": "days_since_ordered", "operator": "more_than", "days": 1},
                ]
            },
            "Orders in New or Processing, ordered more than 1 day ago",
        ),
        (
            {"aggregate": "count", "comparator": "at_least", "threshold": 10},
            "At least 10 orders in New",
        ),
        (
            {
                "filters": [
                    {"field": "recipient_company", "operator": "contains", "text": "Label"},
                    {"field": "delivery_status", "operator": "is", "values": ["returned", "failure"]},
                ]
            },
            "Orders whose parcel is coming back or not deliverable, for a company with “Label” in its name",
        ),
        ({"aggregate": "count", "comparator": "less_than", "threshold": 3, "filters": []}, "Fewer than 3 orders"),
        (
            {"filters": [{"field": "created_by_me", "operator": "is", "value": True}, *_days(2)["filters"]]},
            "Orders in the same state for more than 2 days, entered by you",
        ),
    ],
)  # fmt: skip
def test_titles(changes: dict[str, Any], title: str) -> None:
    assert title_of(Rule.model_validate_json(json.dumps(_with(**changes)))) == title


@given(rules(st.one_of(EACH, COUNTS)))
def test_words_say_everything_that_a_rule_says(made: Rule) -> None:
    """Every value of every filter is in the sentence that people confirm."""
    meaning, title = meaning_of(made), title_of(made)
    assert len(title) <= 200
    for part in made.filters:
        fields = part.model_dump()
        for value in fields.get("values", []):
            assert part.field != "state" or value in meaning
        if "text" in fields:
            assert fields["text"] in meaning
        if fields.get("days", 0) >= 1:
            assert f"{fields['days']:g} day" in meaning
    if made.threshold is not None:
        assert str(made.threshold) in meaning
