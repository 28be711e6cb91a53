"""The AsyncAPI document: valid by the judgment of AsyncAPI's own parser, and true."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from shared.events.asyncapi import asyncapi_document
from shared.events.contracts import contracts
from shared.jobs.handlers import handlers_of
from shared.runtime.service import LIBRARY, all_services
from tests.events.bus.contracts import FOREIGN, ThingHappened
from tests.events.bus.service import service

PARSER = "@asyncapi/parser@3.6.3"

CHECK = """
import { Parser } from "@asyncapi/parser";
import { readFileSync } from "node:fs";
const { document, diagnostics } = await new Parser().parse(readFileSync(process.argv[2], "utf8"));
for (const one of diagnostics) console.log(one.severity, one.code, one.path.join("."), one.message);
process.exit(document === undefined || diagnostics.length > 0 ? 1 : 0);
"""


@pytest.fixture(scope="session")
def parser() -> Path:
    """A directory with AsyncAPI's parser, fetched once; without node a skip on a laptop, a failure in CI."""
    missing = pytest.fail if os.environ.get("CI") else pytest.skip
    if shutil.which("node") is None or shutil.which("npm") is None:
        missing("the public validator of AsyncAPI needs node and npm")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "backroom" / PARSER.replace("/", "-")
    if not (cache / "node_modules" / "@asyncapi").is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        (cache / "package.json").write_text('{"private": true, "type": "module"}')
        command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error", PARSER]
        done = subprocess.run(command, cwd=cache, capture_output=True, text=True, timeout=110)
        if done.returncode:
            missing(f"the public validator of AsyncAPI cannot be fetched: {done.stderr[-300:]}")
    (cache / "check.mjs").write_text(CHECK)
    return cache


def complaints(parser: Path, document: dict[str, Any], tmp_path: Path) -> str:
    path = tmp_path / "asyncapi.json"
    path.write_text(json.dumps(document))
    done = subprocess.run(["node", "check.mjs", str(path)], cwd=parser, capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr if done.returncode else ""


@pytest.mark.parametrize("services", [all_services(), [service], []], ids=["all", "bus", "none"])
def test_a_public_validator_has_nothing_to_say(parser: Path, services: list[Any], tmp_path: Path) -> None:
    assert complaints(parser, asyncapi_document(services), tmp_path) == ""


def test_the_validator_would_say_so(parser: Path, tmp_path: Path) -> None:
    document = asyncapi_document([service])
    document["operations"]["bus.handle.note"]["action"] = "enjoy"
    assert "action" in complaints(parser, document, tmp_path)
    document = asyncapi_document([service])
    document["operations"]["bus.handle.note"]["channel"]["$ref"] = "#/channels/nowhere"
    assert complaints(parser, document, tmp_path)


def test_each_contract_is_published_by_its_service_alone() -> None:
    document = asyncapi_document(all_services())
    sent = [one["channel"]["$ref"] for one in document["operations"].values() if one["action"] == "send"]
    assert sorted(sent) == sorted({f"#/channels/{event_type}" for event_type in contracts()})


def test_handlers_receive_from_the_queue_of_their_service() -> None:
    document = asyncapi_document([service])
    operation = document["operations"]["bus.handle.note"]
    assert operation["action"] == "receive"
    assert operation["summary"] == "Write down the name of what happened."
    queue = document["channels"]["bus.events"]
    assert queue["bindings"]["amqp"]["queue"]["name"] == "bus.events"
    of_library = set(handlers_of(LIBRARY))
    assert set(queue["messages"]) == {ThingHappened.type, FOREIGN, *of_library}
    channel = document["channels"][ThingHappened.type]
    assert channel["address"] == ThingHappened.type
    assert channel["bindings"]["amqp"]["exchange"]["name"] == "events"


def test_each_message_stands_for_itself() -> None:
    document = asyncapi_document(all_services())
    for name, message in document["components"]["messages"].items():
        schema = message["payload"]["schema"]
        assert "$ref" not in json.dumps(schema)
        assert schema["properties"]["type"]["const"] == name
        assert {"id", "source", "tenantid", "data"} <= set(schema["required"])
