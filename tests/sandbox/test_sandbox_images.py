"""The sandbox's website with pictures: good ones of four kinds, and each way of going wrong, seen from the outside."""

from __future__ import annotations

import gzip
import io
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests
from PIL import Image

from shared.sandbox import Sandbox
from shared.sandbox.images.pictures import MEDIA_TYPES, picture


def get(
    sandbox: Sandbox, path: str, *, timeout: float = 5.0, allow_redirects: bool = False, **options: Any
) -> requests.Response:
    url = f"{sandbox.url}/images{path}"
    return requests.get(url, timeout=timeout, allow_redirects=allow_redirects, **options)


@pytest.mark.parametrize("ending", sorted(MEDIA_TYPES))
def test_every_name_is_a_picture_of_its_own(sandbox: Sandbox, ending: str) -> None:
    seen = set()
    for number in range(30):
        answer = get(sandbox, f"/chair-{number}.{ending}")
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, MEDIA_TYPES[ending])
        image = Image.open(io.BytesIO(answer.content))
        image.load()
        assert image.get_format_mimetype() == MEDIA_TYPES[ending]
        seen.add(answer.content)
    assert len(seen) == 30
    assert get(sandbox, f"/chair-0.{ending}?size=large").content == picture(f"chair-0.{ending}")


@pytest.mark.parametrize("status", [403, 404, 410, 429, 500, 503])
def test_any_status(sandbox: Sandbox, status: int) -> None:
    answer = get(sandbox, f"/status/{status}/a.png?retry_after=7")
    assert (answer.status_code, answer.headers["Retry-After"]) == (status, "7")
    assert "Retry-After" not in get(sandbox, f"/status/{status}/a.png").headers


def test_flaky_ones_come_at_last(sandbox: Sandbox) -> None:
    for name in ("a.png", "b.png"):
        assert [get(sandbox, f"/flaky/2/{name}").status_code for _ in range(4)] == [503, 503, 200, 200]
    sandbox.reset()
    assert get(sandbox, "/flaky/2/a.png").status_code == 503


def test_slow_hanging_and_trickling(sandbox: Sandbox) -> None:
    assert get(sandbox, "/slow/a.png?seconds=0.05").content == picture("a.png")
    assert get(sandbox, "/trickle/a.gif?interval=0.0005").content == picture("a.gif")
    alone = get(sandbox, "/trickle/a.gif?interval=0.0005", headers={"Connection": "close"})
    assert alone.content == picture("a.gif"), "also to who wants nothing else"
    with pytest.raises(requests.ConnectionError):
        get(sandbox, "/hang/a.png?seconds=0.05")
    with pytest.raises(requests.Timeout):
        get(sandbox, "/hang/a.png", timeout=0.2)


@pytest.mark.parametrize("path", ["/reset/a.png", "/truncated/a.png", "/wrong-length/a.png"])
def test_broken_off(sandbox: Sandbox, path: str) -> None:
    with pytest.raises(requests.RequestException):
        get(sandbox, path)


def test_what_is_whole_to_http_and_yet_no_picture(sandbox: Sandbox) -> None:
    whole = picture("a.png")
    assert get(sandbox, "/half/a.png").content == whole[: len(whole) // 2]
    assert get(sandbox, "/wrong-length/a.png?by=-50").content == whole[:-50]
    assert get(sandbox, "/empty/a.png").content == b""
    page = get(sandbox, "/html/a.png")
    assert (page.headers["Content-Type"], page.content[:9]) == ("image/png", b"<!doctype")
    assert get(sandbox, "/wrong-type/a.png").headers["Content-Type"] == "text/plain"
    assert get(sandbox, "/wrong-type/a.png?type=image/svg%2Bxml").headers["Content-Type"] == "image/svg+xml"
    packed = get(sandbox, "/gzip/a.png", stream=True)
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.raw.read(decode_content=False)) == whole


def test_more_bytes_than_anybody_wants(sandbox: Sandbox) -> None:
    for path, length in (("/endless/a.png", None), ("/large/a.png?bytes=12345678901", "12345678901")):
        with get(sandbox, path, stream=True) as answer:
            assert answer.headers.get("Content-Length") == length
            assert len(answer.raw.read(5_000_000)) == 5_000_000
    sandbox.wait(lambda: sandbox.images()["open"] == 0)


def test_redirects(sandbox: Sandbox) -> None:
    answer = get(sandbox, "/redirect/3/a.png", allow_redirects=True)
    assert (len(answer.history), answer.content) == (3, picture("a.png"))
    assert get(sandbox, "/loop/a.png").headers["Location"] == "/images/loop/a.png"
    for url in ("http://169.254.169.254/", "//[::1]:80/", "http://①②⑦.1/"):
        answer = get(sandbox, "/to/a.png", params={"url": url, "status": "307"})
        assert (answer.status_code, answer.headers["Location"].encode("latin-1").decode()) == (307, url)


@pytest.mark.parametrize(
    "path",
    ["/status/x/a.png", "/status/999/a.png", "/flaky/-1/a.png", "/slow/a.png?seconds=x", "/to/a.png",
     "/wrong-length/a.png?by=x"],
)  # fmt: skip
def test_what_makes_no_sense_is_said(sandbox: Sandbox, path: str) -> None:
    assert get(sandbox, path).status_code == 400


def test_it_counts_who_is_polite(sandbox: Sandbox) -> None:
    with ThreadPoolExecutor(3) as threads:
        list(threads.map(lambda _: get(sandbox, "/slow/a.png?seconds=0.5"), range(3)))
    get(sandbox, "/b.png")
    sandbox.wait(lambda: sandbox.images()["open"] == 0)
    counted = sandbox.images()
    assert (counted["requests"], counted["most_open"]) == (4, 3)
    assert counted["paths"]["/images/slow/a.png"] == {"requests": 3, "open": 0, "most_open": 3}
    assert counted["paths"]["/images/b.png"] == {"requests": 1, "open": 0, "most_open": 1}
    sandbox.reset()
    assert sandbox.images() == {"requests": 0, "open": 0, "most_open": 0, "paths": {}}


def test_rules_apply_to_pictures_too(sandbox: Sandbox) -> None:
    sandbox.faults.add("status", path="/images/a.png", times=1, status=502)
    assert [get(sandbox, "/a.png").status_code for _ in range(2)] == [502, 200]
    assert sandbox.images()["requests"] == 2


def test_a_request_that_was_given_up_is_open_no_more(sandbox: Sandbox) -> None:
    host, port = sandbox.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(b"GET /images/hang/a.png HTTP/1.1\r\nHost: x\r\n\r\n")
        sandbox.wait(lambda: sandbox.images()["open"] == 1)
    sandbox.wait(lambda: sandbox.images()["open"] == 0)
