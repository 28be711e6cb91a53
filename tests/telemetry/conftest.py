"""What the tests of telemetry share: logging into a text, and put back as it was."""

import io
import json
import logging
import sys
import threading

import pytest
import structlog

import shared.context
from shared.telemetry import logs


class Lines(io.StringIO):
    """A stream that gives back what was logged, parsed."""

    @property
    def all(self):
        return [json.loads(line) for line in self.getvalue().splitlines()]

    @property
    def last(self):
        return self.all[-1]


@pytest.fixture
def configure(monkeypatch):
    """Call it like `configure_logging`; returns the stream."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    quiet = {name: logging.getLogger(name).level for name in logs._QUIET}
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    monkeypatch.setattr(shared.context, "_defaults", shared.context.Context())

    def configure(service="shipping", level="DEBUG", **options):
        stream = options.pop("stream", None) or Lines()
        logs.configure_logging(service, level, stream=stream, **options)
        return stream

    yield configure
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, former in quiet.items():
        logging.getLogger(name).setLevel(former)
    logs._output.stream = None
    structlog.reset_defaults()


@pytest.fixture
def lines(configure):
    """Logging configured at debug level, as JSON, into this stream."""
    return configure()
