"""Templates of mails: subject, text and HTML of each, compiled once per process.

`templates/<name>.txt` has the blocks `subject` and `body`, `templates/<name>.html` the block `body`; each extends the
layout of its sort. `templates/mail.css` is written into the HTML when a template is loaded, never when a mail is
made: mail programs know no stylesheets.

Templates are ours and their values anybody's. So: values are escaped in HTML, every value is one line without
control characters wherever it goes, links lead to http(s) or nowhere, a name that is missing is an error, and the
environment is sandboxed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Final

import css_inline
import jinja2
from jinja2 import meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

__all__ = ["Rendered", "check", "names", "render"]

_DIRECTORY: Final = Path(__file__).parents[1] / "templates"

GIVEN: Final = frozenset({"subject", "workspace", "recipient", "console_url", "unsubscribe_url", "is_member"})
"""Names that every template may use without being given them."""

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]+")
_LONGEST: Final = 2000


@dataclass(frozen=True, slots=True)
class Rendered:
    """What a mail says. `subject` is one line; the others have line breaks as Python has them."""

    subject: str
    text: str
    html: str


def check(name: str, values: Mapping[str, Any]) -> None:
    """Raise LookupError for a template that there is not, ValueError for names that it uses and lacks."""
    missing = _template(name).wants - {key.removesuffix("_sealed") for key in values}
    if missing:
        raise ValueError(f"the template {name} lacks {', '.join(sorted(missing))}")


def render(name: str, values: Mapping[str, Any]) -> Rendered:
    """Return what a mail says. Raises LookupError, and jinja2.UndefinedError for what is missing."""
    template = _template(name)
    subject = " ".join("".join(template.subject(template.text.new_context(dict(values)))).split())
    values = {**values, "subject": subject}
    return Rendered(subject, template.text.render(values), template.html.render(values))


def names() -> list[str]:
    """Return the names of all templates."""
    return sorted(path.stem for path in _DIRECTORY.glob("*.txt") if path.stem != "layout")


@dataclass(frozen=True, slots=True)
class _Template:
    subject: Callable[[Any], Any]
    text: jinja2.Template
    html: jinja2.Template
    wants: frozenset[str]


@cache
def _template(name: str) -> _Template:
    if name not in names():
        raise LookupError(f"there is no template {name}; there are: {', '.join(names())}")
    environment = _environment()
    text, html = environment.get_template(f"{name}.txt"), environment.get_template(f"{name}.html")
    wants: set[str] = set()
    for file in (f"{name}.txt", f"{name}.html"):
        wants |= meta.find_undeclared_variables(environment.parse((_DIRECTORY / file).read_text()))
    return _Template(text.blocks["subject"], text, html, frozenset(wants - GIVEN))


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    environment = ImmutableSandboxedEnvironment(
        loader=_Loader(_DIRECTORY),
        autoescape=lambda name: bool(name) and str(name).endswith(".html"),
        undefined=jinja2.StrictUndefined,
        finalize=_one_line,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters |= {"link": _link, "moment": _moment, "day": _day}
    return environment


def _one_line(value: Any) -> Any:
    """What anybody wrote, as it may stand in the middle of a line. Text of ours that is marked as safe stays."""
    if value is None:
        return ""
    if isinstance(value, str) and not hasattr(value, "__html__"):
        if len(value) > _LONGEST:
            value = value[:_LONGEST] + "…"
        if _CONTROL.search(value):
            value = _CONTROL.sub(" ", value)
        return value if value.isascii() else unicodedata.normalize("NFC", value)
    return value


def _link(url: str) -> str:
    """A URL if it leads to a website, else nothing."""
    # What is missing says so here, as it would anywhere else.
    return str(url) if re.fullmatch(r"https?://[^\s<>\"']+", str(url)) else ""


def _moment(iso: str) -> str:
    """A moment as people write it."""
    moment = datetime.fromisoformat(str(iso)).astimezone(UTC)
    return f"{moment.day} {moment:%B %Y, %H:%M} UTC"


def _day(iso: str) -> str:
    """A day as people write it, of a day or of a moment."""
    moment = datetime.fromisoformat(str(iso))
    return f"{moment.day} {moment:%B %Y}"


class _Loader(jinja2.FileSystemLoader):
    """Loads HTML with the stylesheet written into its elements."""

    def get_source(self, environment: jinja2.Environment, template: str) -> Any:
        source, path, fresh = super().get_source(environment, template)
        return _inlined(source, whole=template == "layout.html") if template.endswith(".html") else source, path, fresh


_TAG: Final = re.compile(r"\{%.*?%\}|\{#.*?#\}|\{\{.*?\}\}", re.DOTALL)
_MARK: Final = re.compile(r"<!--jinja-(\d+)-->|jinja-(\d+)-x")


def _inlined(source: str, *, whole: bool) -> str:
    """Write `mail.css` into a template: what is Jinja's steps aside, since it is no HTML to an HTML parser.

    A tag becomes a comment, which may stand even between the rows of a table; an expression becomes a word.
    """
    tags: list[str] = []

    def aside(found: re.Match[str]) -> str:
        tags.append(found[0])
        number = len(tags) - 1
        return f"jinja-{number}-x" if found[0].startswith("{{") else f"<!--jinja-{number}-->"

    html = _TAG.sub(aside, source)
    css = (_DIRECTORY / "mail.css").read_text()
    inliner = css_inline.CSSInliner(load_remote_stylesheets=False, extra_css=css if whole else None)
    html = inliner.inline(html) if whole else inliner.inline_fragment(html, css)
    return _MARK.sub(lambda found: tags[int(found[1] or found[2])], html)
