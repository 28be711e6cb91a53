"""What the Dramatiq command loads: the broker of the service named by BACKROOM_SERVICE.

    dramatiq shared.runtime.worker:broker      (as `backroom worker shipping` starts it)

Dramatiq forks worker processes, and one more for the relay. Each of them builds the service anew.
"""

from __future__ import annotations

import signal
import threading

from shared.context import set_process_defaults
from shared.events.dead_letters import dead_letters
from shared.jobs.figures import figures
from shared.runtime import together
from shared.runtime.app import build
from shared.runtime.ports import serve_probes
from shared.runtime.service import find_service
from shared.runtime.settings import Settings, load
from shared.telemetry import Heartbeat, add_secrets, configure_telemetry, watch_database

__all__ = ["app", "broker", "relay"]

_settings = load(Settings)
app = build(find_service(_settings.service or ""), _settings)
app.database.use_as_default()
broker = app.broker

set_process_defaults(service=app.service.name)
configure_telemetry(app.service.name, level=_settings.log_level, version=app.version, env=_settings.env)
add_secrets(app.secrets.sensitive())


def relay() -> int:
    """Run the relay until the worker command stops; Dramatiq calls it in a process of its own."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    heartbeat = Heartbeat()
    running = app.relay()
    running.beat = heartbeat.beat
    if serve_probes(_settings, heartbeat) is not None:
        letters = dead_letters(broker)
        watch_database(app.service.name, figures(app.database, letters.counts))
    with together.hold():
        running.run(stop)
    return 0


def probes() -> None:
    """Serve metrics and liveness of a worker process, once it has begun to work."""
    heartbeat = Heartbeat()
    app.liveness.turn = heartbeat.beat
    serve_probes(_settings, heartbeat)


app.forks.append(relay)
app.on_boot.append(probes)
