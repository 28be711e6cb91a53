"""No secret leaves: by name, by shape, by value, in texts and nested; and nothing else is lost."""

import json
import time
import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.telemetry import redaction
from shared.telemetry.redaction import REDACTED, add_secrets, bounded, redact

SECRET = "s3cr3t-Zq9"


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer {}",
        "Authorization: Basic {}",
        "authorization={}",
        "sent with ShippoToken {} to the carrier",
        "sent with Bearer {}, refused",
        "Bearer  {}",
        "Cookie: a=b; session={}; c=d",
        "Set-Cookie: session={}; HttpOnly",
        "postgresql://app:{}@db:5432/shipping",
        "postgresql://app:with/slash{}@db/shipping",
        "amqp://{}@broker/%2f",
        "GET /labels/1.pdf?token={}&download=1 HTTP/1.1",
        "https://bucket/x.pdf?X-Amz-Signature={}",
        "https://bucket/x.pdf?X-Amz-Credential={}&sig={}",
        "https://app/callback?code={}&state=1",
        "next=https%3A%2F%2Fapp%2Fsign-in%3Ftoken%3D{}",
        '{{"access_token": "{}", "expires_in": 3600}}',
        '{{"client_secret": "a \\" b {}"}}',
        r'"headers": "{{\"Authorization\": \"two words {}\"}}"',
        r'"cut": "{{\"Authorization\": \"two words {}',
        "cut password='two words {}",
        r'"body": "{{\"refreshToken\": \"a b {}\"}}"',
        "{{'password': 'with space {}'}}",
        "{{'x-api-key': b'{}'}}",
        "host=db user=app password='it\\'s {}' dbname=x",
        "password={} user=app",
        "password => {}",
        "Key (token_hash)=({}) already exists.",
        "pwd={};server=x",
        "Settings(api_key='{}')",
        "aws_secret_access_key = {}",
        "shippo_live_{}",
        "refused pat-na1-{}",
        "gave bk_acme-packaging_{}",
        "gave br_acme_{}",
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----",
        "-----BEGIN RSA PRIVATE KEY-----\ncut {}",
    ],
)
def test_a_secret_in_a_text_is_redacted(text):
    planted = text.replace("{{", "{").replace("}}", "}").replace("{}", SECRET)
    assert SECRET in planted
    redacted = redact(planted)
    assert SECRET not in redacted
    assert REDACTED in redacted
    assert redacted == redact(redacted), "redacting again must change nothing"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Label purchased for order 12: done",
        "0198f2f4-1111-7000-8000-000000000000",
        "https://api.goshippo.com:443/transactions/?rate=abc@1",
        "token_type=bearer",
        "api_key_id=77",
        "prompt_tokens=512, total_tokens: 700",
        "secretary: Ann",
        "exit code: 5",
        "design=4 sidecar=on",
        "mail from ann@example.com to bob@example.com",
        "the token was refused",
    ],
)
def test_what_is_no_secret_stays(text):
    assert text == redact(text)


def test_json_in_a_text_stays_json():
    text = json.dumps({"token": 'a"b', "n": 1, "nested": {"password": "x y"}})
    assert json.loads(redact(text)) == {"token": REDACTED, "n": 1, "nested": {"password": REDACTED}}


def test_mappings_and_sequences_are_redacted_to_any_depth():
    value = {
        "order": 7,
        "Api-Key": SECRET,
        "token": {"anything": SECRET},
        "headers": [("Authorization", SECRET), ("Accept", "text/html"), [b"Cookie", SECRET.encode()]],
        "deep": [{"deeper": ({"passWord": SECRET},)}],
        "url": f"https://u:{SECRET}@host/",
        "raw": b"token=" + SECRET.encode(),
        "max_tokens": 512,
        "token_valid": True,
        "password": None,
    }
    value["headers"].pop()
    redacted = redact(value)
    assert SECRET not in repr(redacted)
    assert redacted["headers"] == [("Authorization", REDACTED), ("Accept", "text/html")]
    assert tuple(redacted[k] for k in ("order", "max_tokens", "token_valid", "password")) == (
        7,
        512,
        True,
        None,
    )
    assert value["Api-Key"] == SECRET, "the original must not change"


def test_a_structure_without_end_comes_to_an_end():
    loop: dict = {}
    loop["again"] = loop
    assert "[too deep]" in repr(redact(loop))


def test_known_values_are_redacted_wherever_they_show_up(monkeypatch):
    monkeypatch.setattr(redaction, "_secrets", frozenset())
    monkeypatch.setattr(redaction, "_secret_pattern", None)
    add_secrets(["hunter2hunter2", "hunter2hunter2-longer", "short"])
    assert f"x{REDACTED}y {REDACTED} short" == redact("xhunter2hunter2-longery hunter2hunter2 short")


_secrets = st.text("abcXYZ0189-_.~+/=!*$", min_size=8, max_size=40).map(lambda text: f"q7{text}7q")
_noise = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\"'\\<>"), max_size=30)
_keys = st.sampled_from(
    [
        "token",
        "Authorization",
        "PASSWORD",
        "clientSecret",
        "x-api-key",
        "set_cookie",
        "webhook_signature",
        "hmac",
    ]
)
_forms = st.sampled_from(
    [
        lambda key, secret: f"{key}={secret}",
        lambda key, secret: f"{key}: {secret}",
        lambda key, secret: f"?a=1&{key}={secret}&b=2",
        lambda key, secret: f"Bearer {secret}",
        lambda key, secret: f"ShippoToken {secret}",
        lambda key, secret: f"https://user:{urllib.parse.quote(secret, safe='')}@host/path",
        lambda key, secret: json.dumps({key: secret}),
        lambda key, secret: json.dumps(json.dumps({key: f"two words {secret}"})),
        lambda key, secret: repr({key: secret}),
    ]
)


@given(_secrets, _keys, _forms, _noise, _noise)
def test_a_planted_secret_never_appears_in_a_text(secret, key, form, before, after):
    redacted = redact(f"{before} {form(key, secret)} {after}")
    assert secret not in redacted
    assert urllib.parse.quote(secret, safe="") not in redacted
    assert redacted == redact(redacted)


_leaves = st.none() | st.booleans() | st.integers() | _noise
_trees = st.recursive(
    _leaves, lambda sub: st.lists(sub, max_size=3) | st.dictionaries(_noise, sub, max_size=3), max_leaves=8
)


@given(_secrets, _keys, _trees, st.lists(_noise, max_size=6))
def test_a_planted_secret_never_appears_in_a_structure(secret, key, tree, path):
    value = {key: secret, "beside": tree}
    for name in path:
        value = {name: [value]}
    assert secret not in repr(redact(value))


@given(st.text())
def test_any_text_can_be_redacted_and_again_without_change(text):
    assert redact(redact(text)) == redact(text)


@pytest.mark.parametrize(
    "unit",
    [
        "token",
        "token=",
        "token='",
        'token=\\"',
        "://a:",
        "eyJaaaaaaaaa-",
        "aToken ",
        "\\",
        "authorization:'",
        "b'",
        "sk-",
    ],
)
def test_time_grows_linearly_with_a_hostile_text(unit):
    """Twenty times the text takes about twenty times the processor; a quadratic rule would take 400."""

    def seconds(text):
        best = float("inf")
        for _ in range(3):
            start = time.thread_time()
            redact(text)
            best = min(best, time.thread_time() - start)
        return best

    short, long = unit * (10_000 // len(unit)), unit * (200_000 // len(unit))
    assert seconds(long) < 100 * max(seconds(short), 0.0005)


@given(st.text(max_size=3000), st.integers(64, 2000))
def test_bounded_keeps_within_its_bytes(text, limit):
    cut = bounded(text, limit)
    assert len(cut.encode()) <= limit
    assert "\x00" not in cut


def test_bounded_keeps_start_and_end_and_says_what_is_missing():
    cut = bounded("start " + "ü" * 20_000 + " end")
    assert len(cut.encode()) <= 8192
    assert cut.startswith("start ")
    assert cut.endswith(" end")
    missing = int(cut.split("[… ")[1].split(" bytes")[0])
    assert missing + len(cut.encode()) - len(f"\n[… {missing} bytes …]\n".encode()) == 40_010


def test_bounded_redacts_before_it_cuts():
    text = f"token={SECRET * 2000} end"
    assert f"token={REDACTED} end" == bounded(text)


def test_bounded_refuses_a_limit_without_room():
    with pytest.raises(ValueError, match="64"):
        bounded("x", 10)
