"""Side ports for /metrics and /livez: the first free one from the configured port on."""

from __future__ import annotations

from typing import Any

from shared.runtime.settings import Settings
from shared.telemetry import Heartbeat, get_logger, serve

__all__ = ["serve_probes"]

_MOST = 100

log = get_logger(__name__)


def serve_probes(settings: Settings, heartbeat: Heartbeat) -> Any | None:
    """Serve metrics and liveness of this process; return the server, None where no port is configured.

    Several processes of one host share the setting: each takes the next free port.
    Raises OSError when a hundred ports are taken.
    """
    if not settings.metrics_port:
        return None
    for port in range(settings.metrics_port, settings.metrics_port + _MOST):
        try:
            server = serve(port, alive=heartbeat.alive, host=settings.host)
        except OSError:
            continue
        log.info("probes served", port=port)
        return server
    raise OSError(f"no free port from {settings.metrics_port} on for metrics")
