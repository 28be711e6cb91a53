"""gunicorn's logging, joined to ours: `logger_class = "shared.telemetry.gunicorn.Logger"`.

gunicorn configures logging itself, with handlers of its own and no propagation. This class leaves that
out, so that `configure_logging` decides. Its access log stays silent: the web kit writes one canonical
line per request, which knows more.
"""

from __future__ import annotations

import logging
from typing import Any

from gunicorn.glogging import Logger as _Base

__all__ = ["Logger"]


class Logger(_Base):
    """Hands everything to the root logger's handlers."""

    def setup(self, cfg: Any) -> None:
        self.logfmt = ""
        for logger in (self.error_log, self.access_log):
            logger.handlers.clear()
            logger.propagate = True
            logger.setLevel(logging.NOTSET)

    def access(self, *_: Any) -> None:
        return None

    def reopen_files(self) -> None:
        return None

    def close_on_exec(self) -> None:
        return None
