"""Accepting a job over HTTP (business row, job row, commit), against one insert and commit by the same server.

Both are operations of the same app, with all that a request passes through: routing, authentication by a signed token,
row-level security, metrics, the log line. 16 kept connections from a load generator in a process of its own, one
server process of 16 threads. The two take turns of a second or so, and the ratio is the median of the turns. No worker
runs meanwhile: what is measured is the counter. The naked insert is a bare WSGI function on the same server, without
framework, authentication or tenant: how much the server and the database could do.

The same under three WSGI servers, for the choice of one.
"""

from __future__ import annotations

import importlib.util
import statistics

from shared.testing.server import answers, free_port
from tests.benchmarks.bench import Place, Result, ms, percentile, place, process, wait
from tests.benchmarks.load import load, request

_CONNECTIONS = 16
_SERVERS = ("gunicorn", "granian", "waitress")

_CHOICE = """
**The choice: gunicorn with threads.** granian is quicker, by far where the server is all that there is, by less where
the app takes most of the time. But an API that accepts work has to end well more than it has to be quick, and of the
three only gunicorn gives what we rely on: a graceful end on SIGTERM within a stated time, with a hook in the worker
that ends event streams and waits at once (`post_worker_init`); the connection in the WSGI environment, by which a
stream notices that its client has left; kept connections for longer than load balancers keep theirs; replacement of a
process that hangs. By their sources, granian 2.8 passes the connection on to no WSGI app and calls its shutdown hook in
the main process only, and waitress 3.0 leaves SIGTERM to whoever starts it. Where rate matters more, more processes do.
"""


def main(long: bool) -> Result:
    seconds, turns = (1.5, 8) if long else (0.4, 1)
    result = Result("Accepting a job over HTTP")
    missing = []
    for server in _SERVERS if long else _SERVERS[:1]:
        if importlib.util.find_spec(server) is None:
            missing.append(server)
            continue
        with place(threads=_CONNECTIONS) as here:
            _measure(here, server, seconds, turns, result)
    if missing:
        result.note = f"Not installed and therefore not measured: {', '.join(missing)}.\n"
    result.note += _CHOICE
    return result


def _measure(here: Place, server: str, seconds: float, turns: int, result: Result) -> None:
    signer = here.app.secrets.signer
    assert signer is not None
    token = signer.issue("acme", "user:bench", "owner", 3600)
    requests = {name: request(name, "POST", f"/v1/{name}", {"key": "k"}, token=token) for name in ("bare", "accept")}
    requests["naked"] = request("naked", "POST", "/naked", {"key": "k"})
    rates: dict[str, list[float]] = {name: [] for name in requests}
    times: dict[str, list[float]] = {name: [] for name in requests}
    port = free_port()
    with process(["tests.benchmarks.counter", server, str(port)], here.environment):
        wait(lambda: answers("127.0.0.1", port), 60)
        url = f"http://127.0.0.1:{port}"
        for one in requests.values():
            load(url, [one], connections=_CONNECTIONS, seconds=seconds)
        for _ in range(turns):
            for name, one in requests.items():
                done = load(url, [one], connections=_CONNECTIONS, seconds=seconds)
                if set(done.statuses[name]) - {"201", "202"}:
                    raise RuntimeError(f"{server} answered {done.statuses}")
                rates[name].append(done.rate)
                times[name] += done.times[name]
    ratio = statistics.median(ours / bare for ours, bare in zip(rates["accept"], rates["bare"], strict=True))

    def figure(name: str) -> str:
        return f"{statistics.median(rates[name]):,.0f}/s, p99 {ms(percentile(times[name], 99))}"

    result.add(f"{server}: naked insert", figure("naked"))
    result.add(f"{server}: bare insert", figure("bare"))
    gunicorn = server == "gunicorn"
    result.add(
        f"{server}: accept a job, against the bare insert",
        f"{ratio:.2f}x ({figure('accept')})",
        "at least 0.7x" if gunicorn else "",
        ratio >= 0.7 if gunicorn else None,
    )
