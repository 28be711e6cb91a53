"""Every mail can be written, says the same in text and in HTML, and nobody's words become markup or a link."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import jinja2
import pytest

from services.notifications.mail import templates
from tests.services.notifications.post import ALERT

MOMENT = "2026-03-01T12:15:00+00:00"
SHIPPING = {
    "order_id": "0199a1b2",
    "number": "1042",
    "to": "Example Labels",
    "carrier": "USPS",
    "tracking_number": "9205",
    "tracking_url": "https://tracking.example/9205",
}
IMPORT = {"import_id": "0199a1b2", "file_name": "catalog.csv"}
VALUES: dict[str, dict[str, Any]] = {
    "sign_in": {"url": "https://acme.example/s?t=1&u=2", "expires_at": MOMENT},
    "invitation": {"url": "https://acme.example/s", "expires_at": MOMENT, "invited_by": "Ada"},
    "winback_1": {"freezes_at": MOMENT},
    "winback_2": {"freezes_at": MOMENT},
    "label_created": SHIPPING,
    "in_transit": SHIPPING,
    "delivered": SHIPPING,
    "import_completed": {**IMPORT, "created": 4870, "updated": 0, "skipped": 100, "failed": 30},
    "import_failed": {**IMPORT, "processed": 100, "rows": 5000},
    "alert": ALERT,
    "digest": {"day": "2026-03-01", "sections": [{"title": "Shipped", "lines": ["12 orders"]}]},
    "stuck_orders": {"orders": [{"number": "1042", "to": "Example Labels", "state": "Processing", "days": 4}]},
}
GIVEN = {
    "workspace": "Acme Packaging",
    "recipient": "Eve Example",
    "is_member": True,
    "console_url": "https://console.example",
    "unsubscribe_url": "https://api.example/v1/unsubscribe?token=1",
}


class Page(HTMLParser):
    """The words, links and elements of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words = ""
        self.links: list[str] = []
        self.elements: list[str] = []
        self.styled: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        values = dict(attrs)
        if values.get("href"):
            self.links.append(str(values["href"]))
        if values.get("style"):
            self.styled.add(tag)

    def handle_data(self, data: str) -> None:
        self.words += f" {data}"


def test_the_values_above_are_for_all_templates() -> None:
    assert sorted(VALUES) == templates.names()


@pytest.mark.parametrize("name", sorted(VALUES))
@pytest.mark.parametrize("is_member", [True, False])
def test_every_template_can_be_written(name: str, is_member: bool) -> None:
    templates.check(name, VALUES[name])
    mail = templates.render(name, {**GIVEN, **VALUES[name], "is_member": is_member})
    assert mail.subject
    assert len(mail.subject) < 100
    page = Page(mail.html)
    assert {"body", "td", "h1", "a"} <= page.styled
    assert {"style", "script", "img"}.isdisjoint(page.elements)
    assert "jinja" not in mail.html
    # What the text leads to, the HTML leads to as well.
    assert set(re.findall(r"https?://\S+", mail.text)) == set(page.links)
    assert not re.search(r"\n{4}", mail.text)


@pytest.mark.parametrize("name", sorted(VALUES))
def test_what_a_template_needs_is_known_before_it_is_queued(name: str) -> None:
    for missing in VALUES[name]:
        values = {key: value for key, value in VALUES[name].items() if key != missing}
        with pytest.raises(ValueError, match=f"lacks {missing}"):
            templates.check(name, values)
        with pytest.raises(jinja2.UndefinedError):
            templates.render(name, {**GIVEN, **values})


def test_there_is_no_other_template() -> None:
    for name in ("layout", "../sign_in", "none"):
        with pytest.raises(LookupError):
            templates.check(name, {})


HOSTILE = "<img src=x onerror=alert(1)>\"'\r\nBcc: all@example.com\r\n\r\n{{ 7*7 }}{% raw %}\u202e"


@pytest.mark.parametrize("name", sorted(VALUES))
def test_nobodys_words_become_markup_headers_or_templates(name: str) -> None:
    words = {key: HOSTILE if isinstance(value, str) and value != MOMENT and key != "day" else value
             for key, value in {**GIVEN, **VALUES[name]}.items()}  # fmt: skip
    mail = templates.render(name, words)
    plain = templates.render(name, {**GIVEN, **VALUES[name]})
    assert "\n" not in mail.subject
    assert "\r" not in mail.text
    assert not any(line.startswith("Bcc") for line in mail.text.splitlines())
    page, usual = Page(mail.html), Page(plain.html)
    assert set(page.elements) <= set(usual.elements), "no element that is not of the template"
    assert "49" not in mail.html.replace("1049", "")
    assert page.links == []


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "data:text/html,x", "//evil.example", 'https://x.example/"onclick="x', "ftp://x", ""]
)
def test_links_lead_to_websites_or_nowhere(url: str) -> None:
    mail = templates.render("delivered", {**GIVEN, **SHIPPING, "tracking_url": url})
    assert Page(mail.html).links == ["https://console.example/orders/0199a1b2"]
    assert "Follow" not in mail.text + mail.html


def test_moments_are_written_for_people() -> None:
    mail = templates.render("sign_in", {**GIVEN, **VALUES["sign_in"], "expires_at": "2026-03-01T13:15:00+01:00"})
    assert "1 March 2026, 12:15 UTC" in mail.text
    assert 'href="https://acme.example/s?t=1&amp;u=2"' in mail.html
    assert "https://acme.example/s?t=1&u=2" in mail.text
