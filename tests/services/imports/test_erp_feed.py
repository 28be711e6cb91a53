"""What ERPs send: taken only when it is theirs, applied once, in order, and however much of it is wrong."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote
from uuid import UUID

import pytest

from services.imports.erp.log import excerpt
from services.imports.erp.signing import new_key_id, sign, tenant_of
from services.imports.settings import settings
from shared.context import SYSTEM
from tests.services.imports.desk import Desk
from tests.services.imports.erp_desk import TOKEN, Erp

CREATED = "backroom.imports.sample.created.v1"
UPDATED = "backroom.imports.sample.updated.v1"
BOX = {"title": "Kraft box", "sku": "KB-1", "unit_cost": 1.5, "category": ["Boxes > Small"], "status": "active"}


@pytest.fixture
def erp(desk: Desk) -> Erp:
    return Erp(desk)


def samples(desk: Desk) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in desk.service.query("SELECT title, sku, stock FROM samples ORDER BY id")]


# -- who it is -------------------------------------------------------------------------------------------------


def now() -> datetime:
    return datetime.now(UTC)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: {"secret": "erps_" + "x" * 40},
        lambda: {"now": now() - timedelta(seconds=320)},
        lambda: {"now": now() + timedelta(seconds=320)},
        lambda: {"signed_as": "stock"},
        lambda: {"signed_body": b'{"items": []}'},
        lambda: {"header": ""},
        lambda: {"header": "t=1,v1="},
        lambda: {"header": f"t={int(now().timestamp())}"},
        lambda: {"header": f"t={int(now().timestamp())},t={int(now().timestamp())},v1={'0' * 64}"},
        lambda: {"key_id": new_key_id("acme")},
        lambda: {"key_id": new_key_id("nobody")},
        lambda: {"key_id": new_key_id(SYSTEM)},
        lambda: {"key_id": "connections"},
        lambda: {"key_id": "AA.00000000000000000000"},
    ],
    ids=lambda wrong: "",
)
def test_what_is_not_theirs_is_refused_and_leaves_nothing(
    desk: Desk, erp: Erp, wrong: Callable[[], dict[str, Any]]
) -> None:
    answer = erp.send("samples", [BOX], **wrong())
    assert answer.status_code == 401
    assert answer.json["type"].endswith("unauthorized")
    assert desk.service.query("SELECT 1 FROM erp_feeds") == []
    assert desk.service.query("SELECT 1 FROM jobs") == []


def test_all_refusals_look_the_same(desk: Desk, erp: Erp) -> None:
    answers = [
        erp.send("samples", [BOX], secret="erps_wrong"),
        erp.send("samples", [BOX], key_id=new_key_id("acme")),
        erp.send("samples", [BOX], key_id=new_key_id("nobody")),
        erp.send("samples", [BOX], key_id="no key at all"),
    ]
    said = [
        {name: value for name, value in answer.json.items() if name not in ("request_id", "instance")}
        for answer in answers
    ]
    assert said == [said[0]] * len(said)


def test_one_bit_of_the_body_is_enough(desk: Desk, erp: Erp) -> None:
    body = json.dumps({"items": [BOX]}).encode()
    header = sign(erp.secret, erp.key_id, "samples", body, now())
    assert erp.send("samples", body.replace(b"1.5", b"1.6"), header=header).status_code == 401
    assert erp.send("stock", body, header=header).status_code == 401
    assert erp.send("samples", body, header=header).status_code == 202


def test_a_secret_opens_no_other_connection(desk: Desk, erp: Erp) -> None:
    other = Erp(desk, name="Second")
    assert erp.send("samples", [BOX], key_id=other.key_id).status_code == 401
    assert other.send("samples", [BOX]).status_code == 202


def test_another_tenants_connection_is_none(desk: Desk, erp: Erp) -> None:
    stranger = desk.client.of("globex")
    for method, path in (
        ("GET", erp.path),
        ("GET", f"{erp.path}/log"),
        ("POST", f"{erp.path}/secret"),
        ("DELETE", erp.path),
    ):
        assert stranger.request(method, path).status_code == 404, path
    assert stranger.get("/v1/erp/connections").json["items"] == []
    forged = new_key_id("globex").rpartition(".")[0] + "." + erp.key_id.rpartition(".")[2]
    assert erp.send("samples", [BOX], key_id=forged).status_code == 401
    assert len(desk.read("/v1/erp/connections")["items"]) == 1


def test_while_the_secret_is_changed_both_are_good(desk: Desk, erp: Erp) -> None:
    first = erp.secret
    second = desk.client.post(f"{erp.path}/secret").json["secret"]
    assert first != second
    for secret in (first, second):
        assert erp.send("stock", [], secret=secret).status_code == 202
    desk.service.execute("UPDATE erp_connections SET previous_until = now()")
    assert erp.send("stock", [], secret=first).status_code == 401
    assert erp.send("stock", [], secret=second).status_code == 202


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b"\xff", b'{"items": 1}', b'{"items": [' + b"0," * 500 + b"0]}", b"[" * 100_000]
)
def test_a_genuine_feed_that_is_none(desk: Desk, erp: Erp, body: bytes) -> None:
    assert erp.send("samples", body).status_code == 400
    assert desk.service.query("SELECT 1 FROM erp_feeds") == []


def test_a_feed_of_more_than_a_megabyte(desk: Desk, erp: Erp) -> None:
    assert erp.send("samples", b"[" + b" " * (1 << 20) + b"]").status_code == 413


def test_a_key_names_its_tenant() -> None:
    for tenant in ("acme", "größe/1 a", "0199a1b2-7c3d-7e4f-8a5b-6c7d8e9f0b1b"):
        assert tenant_of(new_key_id(tenant)) == tenant
    for key_id in ("", "acme", "....", "YWNtZQ.xyz", "=.00000000000000000000", new_key_id(SYSTEM)):
        assert tenant_of(key_id) is None


# -- what comes of it ------------------------------------------------------------------------------------------


def test_samples_and_stock_come_into_the_catalog(desk: Desk, erp: Erp) -> None:
    erp.feed("samples", [BOX, {"title": "Mailer"}])
    assert samples(desk) == [("Kraft box", "KB-1", None), ("Mailer", None, None)]
    erp.feed("stock", [{"sku": " kb-1 ", "stock": 7}])
    assert samples(desk)[0] == ("Kraft box", "KB-1", 7)
    (made,) = desk.service.published(CREATED)
    (changed,) = desk.service.published(UPDATED)
    assert (len(made.data["sample_ids"]), made.data["import_id"]) == (2, None)
    assert changed.data["sample_ids"] == [made.data["sample_ids"][0]]
    view = desk.read(f"/v1/samples/{made.data['sample_ids'][0]}")
    assert (view["unit_cost"], view["stock"], view["categories"], view["import_id"]) == (
        "1.5",
        7,
        ["boxes>small"],
        None,
    )
    assert [(row["entity"], row["direction"], row["outcome"], row["counts"]) for row in erp.log()] == [
        ("stock", "in", "ok", {"items": 1, "created": 0, "updated": 1, "unchanged": 0, "failed": 0}),
        ("samples", "in", "ok", {"items": 2, "created": 2, "updated": 0, "unchanged": 0, "failed": 0}),
    ]


def test_the_same_message_twice_is_one_feed(desk: Desk, erp: Erp) -> None:
    moment = now()
    first = erp.feed("stock", [], now=moment)
    assert erp.feed("stock", [], now=moment) == first
    assert desk.service.query("SELECT count(*) FROM erp_feeds")[0][0] == 1
    assert len(erp.log()) == 1


def test_a_message_that_is_sent_by_many_at_once_is_one_feed(desk: Desk, erp: Erp) -> None:
    moment = now()
    answers = desk.service.concurrently(8, lambda _: erp.send("samples", [BOX], now=moment))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json["receipt_id"] for answer in answers}) == 1
    desk.service.drain()
    assert len(samples(desk)) == 1


def test_a_recording_does_not_bring_back_what_was(desk: Desk, erp: Erp) -> None:
    erp.feed("samples", [BOX])
    early = now() - timedelta(seconds=60)
    erp.feed("stock", [{"sku": "KB-1", "stock": 5}], now=early)
    erp.feed("stock", [{"sku": "KB-1", "stock": 3}])
    erp.feed("stock", [{"sku": "KB-1", "stock": 5}], now=early)
    assert samples(desk) == [("Kraft box", "KB-1", 3)]
    erp.feed("stock", [{"sku": "KB-1", "stock": 5}])
    assert samples(desk) == [("Kraft box", "KB-1", 5)]


def test_the_same_items_again_change_nothing_and_are_no_news(desk: Desk, erp: Erp) -> None:
    item = {**BOX, "image_url": "https://example.com/a.png"}
    moment = now()
    for second in range(3):
        # Of different times, or they were one message that is repeated.
        erp.feed("samples", [item], now=moment - timedelta(seconds=second))
    assert desk.service.query("SELECT version FROM samples") == [(1,)]
    assert desk.service.published(UPDATED) == []
    assert [row["counts"]["unchanged"] for row in erp.log()] == [1, 1, 0]
    erp.feed("samples", [{**item, "image_url": ["https://example.com/b.png"]}])
    assert desk.service.query("SELECT url, import_id FROM images ORDER BY id") == [
        ("https://example.com/a.png", None),
        ("https://example.com/b.png", None),
    ]


def test_fields_that_an_item_does_not_name_stay(desk: Desk, erp: Erp) -> None:
    erp.feed("samples", [{**BOX, "description": "Brown."}])
    erp.feed("samples", [{"title": "Renamed box", "sku": "KB-1", "unit_cost": "2.25", "color": "unknown to us"}])
    erp.feed("samples", [{"title": "Kraft box", "description": None}, {"title": "Mailer", "unit_cost": 3}])
    rows = desk.service.query("SELECT title, sku, description, unit_cost, categories FROM samples ORDER BY id")
    assert [(row.title, row.sku, row.description, str(row.unit_cost)) for row in rows] == [
        ("Kraft box", "KB-1", "", "2.2500"),
        ("Mailer", None, "", "3.0000"),
    ]
    assert rows[0].categories == ["boxes>small"]


def test_items_that_are_wrong_do_not_stop_the_others(desk: Desk, erp: Erp) -> None:
    erp.feed(
        "samples",
        [
            BOX,
            {"sku": "NO-TITLE"},
            "no item",
            None,
            {"title": "Cost", "unit_cost": "a lot"},
            {"title": "Nested", "description": {"en": "x"}},
            {"title": "NUL\x00"},
            {"title": "Half \ud800"},
            {"title": "Long", "unit_cost": 10**60},
            {"title": True},
            {"title": "Pictures", "image_url": ["ftp://x/y.png"]},
            {"title": "Last"},
        ],
    )
    assert [title for title, _, _ in samples(desk)] == ["Kraft box", "Last"]
    whole, *single = erp.log()
    assert (whole["outcome"], whole["external_id"]) == ("failed", None)
    assert whole["counts"] == {"items": 12, "created": 2, "updated": 0, "unchanged": 0, "failed": 10}
    assert len(single) == 10
    assert all(row["outcome"] == "failed" and row["response"] for row in single)
    assert {row["external_id"] for row in single} >= {"NO-TITLE", "Cost", "Nested", "Long", "Pictures", None}
    assert len(erp.log(outcome="ok")) == 0


def test_stock_that_is_wrong_does_not_stop_the_rest(desk: Desk, erp: Erp) -> None:
    erp.feed("samples", [BOX, {"title": "Mailer", "sku": "M-1"}])
    erp.feed(
        "stock",
        [
            {"sku": "KB-1", "stock": 1},
            {"sku": "gone", "stock": 1},
            {"sku": "M-1", "stock": -1},
            {"sku": "M-1", "stock": "7"},
            {"sku": "M-1", "stock": 2**40},
            {"sku": "", "stock": 1},
            {"stock": 1},
            {"sku": "\x00", "stock": 1},
            [],
            {"sku": "kb-1", "stock": 9},
        ],
    )
    assert [stock for _, _, stock in samples(desk)] == [9, None]
    assert erp.log()[0]["counts"] == {"items": 10, "created": 0, "updated": 1, "unchanged": 1, "failed": 8}


def test_the_plans_limit_holds(desk: Desk, erp: Erp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMPORTS_MAX_RECORDS", "2")
    settings.cache_clear()
    erp.feed("samples", [{"title": "A"}, {"title": "B", "sku": "b"}, {"title": "C"}, {"title": "D", "sku": "d"}])
    assert len(samples(desk)) == 2
    assert erp.log()[0]["counts"]["failed"] == 2


def test_feeds_are_applied_in_the_order_in_which_they_came(desk: Desk, erp: Erp) -> None:
    erp.feed("samples", [BOX])
    for stock in (1, 2, 3):
        assert erp.send("stock", [{"sku": "KB-1", "stock": stock}]).status_code == 202
    jobs = desk.service.query("SELECT id FROM jobs WHERE actor = 'apply_feed' AND state = 'scheduled' ORDER BY id DESC")
    for (job_id,) in jobs:
        assert desk.service.run(UUID(str(job_id))).state == "succeeded"
    assert samples(desk) == [("Kraft box", "KB-1", 3)]
    assert desk.service.query("SELECT DISTINCT state, body FROM erp_feeds") == [("applied", b"")]


def test_what_waits_when_its_connection_goes_is_dropped(desk: Desk, erp: Erp) -> None:
    assert erp.send("samples", [BOX]).status_code == 202
    assert desk.client.delete(erp.path).status_code == 204
    desk.service.drain()
    assert samples(desk) == []
    assert desk.service.query("SELECT state FROM jobs") == [("succeeded",)]
    assert erp.send("samples", [BOX]).status_code == 401


# -- connections -----------------------------------------------------------------------------------------------


def test_what_is_secret_is_shown_once_and_kept_sealed(desk: Desk, erp: Erp) -> None:
    for path in ("/v1/erp/connections", erp.path):
        text = desk.client.get(path).text
        assert erp.secret not in text
        assert TOKEN not in text
    (row,) = desk.service.query("SELECT erp_connections::text AS everything FROM erp_connections")
    assert erp.secret not in row.everything
    assert TOKEN not in row.everything


@pytest.mark.parametrize(
    "base_url",
    [
        "http://erp.example.com",
        "ftp://erp.example.com",
        "https://user@erp.example.com",
        "https://erp.example.com/?a=b",
        "https://erp example.com",
        "erp.example.com",
        "https://",
        "https://[::1",
    ],
)
def test_addresses_that_are_none(desk: Desk, base_url: str) -> None:
    body = {"name": "x", "base_url": base_url, "token": TOKEN}
    answer = desk.client.post("/v1/erp/connections", body)
    assert answer.status_code in (400, 422), answer.text
    assert desk.read("/v1/erp/connections")["items"] == []


def test_only_owners_and_managers(desk: Desk, erp: Erp) -> None:
    sales = desk.client.role("sales")
    assert sales.get("/v1/erp/connections").status_code == 403
    assert sales.get(f"{erp.path}/log").status_code == 403


# -- the log ---------------------------------------------------------------------------------------------------


def test_no_secret_is_written_down(desk: Desk, erp: Erp) -> None:
    """Wherever the ERP put it: in a field, a name, a list, in the forms of URLs, JSON and headers."""
    for secret in (TOKEN, erp.secret):
        forms = [secret, quote(secret, safe=""), base64.b64encode(secret.encode()).decode(), secret.encode().hex()]
        erp.feed(
            "samples",
            [
                {"title": f"Box {number}", "sku": form[:100], "note": [form], "unit_cost": form, form: 1}
                for number, form in enumerate(forms)
            ],
        )
        erp.feed("stock", [{"sku": form, "stock": 1} for form in forms])
        text = json.dumps(desk.read(f"{erp.path}/log?limit=200"))
        text += "".join(map(str, desk.service.query("SELECT erp_sync_log::text FROM erp_sync_log")))
        text += "".join(map(str, desk.service.query("SELECT jobs::text FROM jobs")))
        text += "".join(str(event.data) for event in desk.service.published())
        for form in forms:
            assert form not in text
        assert "[redacted]" in text


@pytest.mark.parametrize("offset", range(0, 60, 3))
def test_no_cut_leaves_a_part_of_a_secret(offset: int) -> None:
    secret = "s3cr3t-" + "q" * 33
    for start in (4096, 4 * 4096):
        text = "x" * (start - offset) + secret + "y" * 30_000
        said = excerpt(text, [secret])
        assert len(said.encode()) <= 4096
        assert "qq" not in said
        assert "s3cr" not in said
    assert "qq" not in excerpt((secret + " ") * 2000, [secret])


def test_excerpts_are_short_and_storable() -> None:
    assert len(excerpt("ü" * 50_000, []).encode()) <= 4096
    assert "\x00" not in excerpt("a\x00\ud800b" * 10, ["secret"])
    assert excerpt("Authorization: Bearer abcdefgh", []) == "Authorization: [redacted]"
