"""Keys are read in the background: a new one comes by itself, an outage costs none, and no request waits."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from shared.testing.service import wait_until
from shared.web import Signer
from shared.web import keys as module
from shared.web.auth import TokenVerifier
from shared.web.keys import Keys
from shared.web.problems import Unauthorized, Unavailable


class Issuer:
    """Whoever issues tokens, over real HTTP: publishes the keys of its signers, or fails."""

    def __init__(self) -> None:
        self.signers: list[Signer] = []
        self.body: bytes | None = None
        self.asked = 0
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked += 1
                keys = [key for signer in issuer.signers for key in signer.jwks()["keys"]]
                body = json.dumps({"keys": keys}).encode() if issuer.body is None else issuer.body
                self.send_response(200)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/.well-known/jwks.json"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    issuer = Issuer()
    yield issuer
    issuer.stop()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SOONEST", 0.0)


def accepts(verifier: TokenVerifier, signer: Signer) -> bool:
    try:
        return verifier("bearer", signer.issue("acme", "user:ada", "owner")) is not None
    except (Unauthorized, Unavailable):
        return False


def test_a_token_under_a_new_key_has_the_keys_read_early(issuer: Issuer, quick: None) -> None:
    old, new = Signer(), Signer()
    issuer.signers = [old]
    keys = Keys(issuer.url)
    keys.start()
    verifier = TokenVerifier(keys)
    assert accepts(verifier, old)
    issuer.signers = [old, new]
    assert not accepts(verifier, new), "the request itself asks nobody"
    wait_until(lambda: accepts(verifier, new))
    assert accepts(verifier, old)
    keys.stop()


def test_made_up_keys_bring_no_flood_about(issuer: Issuer) -> None:
    issuer.signers = [Signer()]
    keys = Keys(issuer.url)
    keys.start()
    verifier = TokenVerifier(keys)
    asked = issuer.asked
    for _ in range(50):
        assert not accepts(verifier, Signer())
    keys.stop()
    assert keys._thread is not None
    keys._thread.join(5)
    assert issuer.asked == asked


def test_a_key_that_is_gone_vouches_for_nothing_even_if_its_token_was_seen(issuer: Issuer) -> None:
    gone, stays = Signer(), Signer()
    issuer.signers = [gone, stays]
    keys = Keys(issuer.url)
    keys.refresh()
    verifier = TokenVerifier(keys)
    token = gone.issue("acme", "user:ada", "owner")
    assert verifier("bearer", token) is not None
    issuer.signers = [stays]
    keys.refresh()
    with pytest.raises(Unauthorized):
        verifier("bearer", token)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"keys": 1}', b'{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}'])
def test_an_outage_costs_no_key(issuer: Issuer, body: bytes) -> None:
    signer = Signer()
    issuer.signers = [signer]
    keys = Keys(issuer.url)
    keys.refresh()
    issuer.body = body
    keys.refresh()
    assert accepts(TokenVerifier(keys), signer)


def test_private_keys_are_never_taken_over(issuer: Issuer) -> None:
    issuer.body = json.dumps({"keys": [Signer().private_jwk()]}).encode()
    keys = Keys(issuer.url)
    keys.refresh()
    assert not keys.current.keys


def test_before_there_are_keys_it_is_not_the_token_that_is_wrong() -> None:
    keys = Keys("http://127.0.0.1:9/.well-known/jwks.json")
    keys.start()
    with pytest.raises(Unavailable):
        TokenVerifier(keys)("bearer", Signer().issue("acme", "user:ada", "owner"))
    keys.stop()


def test_several_sources_are_one_set(issuer: Issuer, tmp_path: Path) -> None:
    signers = [Signer() for _ in range(4)]
    (tmp_path / "jwks.json").write_text(json.dumps(signers[0].jwks()))
    issuer.signers = [signers[1]]
    keys = Keys(str(tmp_path / "jwks.json"), issuer.url, signers[2].jwks(), lambda: signers[3].jwks())
    keys.refresh()
    verifier = TokenVerifier(keys)
    assert all(accepts(verifier, signer) for signer in signers)
    issuer.body = b"out of order"
    replaced = Signer()
    (tmp_path / "jwks.json").write_text(json.dumps(replaced.jwks()))
    keys.refresh()
    assert not accepts(verifier, signers[0])
    assert all(accepts(verifier, signer) for signer in (replaced, *signers[1:]))


def test_mistakes_of_the_settings_are_found_at_the_start(tmp_path: Path) -> None:
    for bad in ("{}", str(tmp_path / "missing.json")):
        with pytest.raises(ValueError, match="cannot read"):
            Keys(bad).start()
