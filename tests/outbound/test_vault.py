"""What is sealed opens for its tenant and purpose alone, unaltered, and after a rotation."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.outbound import vault
from shared.outbound.vault import Vault, VaultError, new_key

OLD, NEW = new_key(), new_key()


@given(tenant=st.text(), purpose=st.text(), plaintext=st.text())
def test_a_round_trip(tenant: str, purpose: str, plaintext: str) -> None:
    box = Vault([NEW])
    assert box.open_(tenant, purpose, box.seal(tenant, purpose, plaintext)) == plaintext


def test_it_is_not_there_to_be_read_and_differs_each_time() -> None:
    box = Vault([NEW])
    sealed = {box.seal("t", "shippo", "shippo_live_secret") for _ in range(50)}
    assert len(sealed) == 50
    assert not any("secret" in one for one in sealed)
    assert NEW not in repr(box)


@pytest.mark.parametrize(
    ("tenant", "purpose"), [("other", "shippo"), ("t", "erp"), ("t.shippo", ""), ("", "t.shippo"), ("tshippo", "")]
)
def test_another_tenant_or_purpose_does_not_open(tenant: str, purpose: str) -> None:
    box = Vault([NEW])
    with pytest.raises(VaultError):
        box.open_(tenant, purpose, box.seal("t", "shippo", "x"))


def test_no_altered_byte_opens() -> None:
    box = Vault([NEW])
    sealed = box.seal("t", "shippo", "secret")
    for at in range(len(sealed) - 1):  # of the last character some bits are not used
        altered = sealed[:at] + ("A" if sealed[at] != "A" else "B") + sealed[at + 1 :]
        with pytest.raises(VaultError):
            box.open_("t", "shippo", altered)
    for text in ("", "v1", "v1.", "v1.aa", "v1..", sealed[:-10], sealed + "A", sealed + "!!", "plain"):
        with pytest.raises(VaultError):
            box.open_("t", "shippo", text)


def test_rotation() -> None:
    before, during, after = Vault([OLD]), Vault([NEW, OLD]), Vault([NEW])
    old = before.seal("t", "shippo", "secret")
    assert during.open_("t", "shippo", old) == "secret"
    assert not old.startswith(during.newest())
    new = during.seal("t", "shippo", "secret")
    assert new.startswith(during.newest())
    assert after.open_("t", "shippo", new) == "secret"
    with pytest.raises(VaultError, match="not among ours"):
        after.open_("t", "shippo", old)


@pytest.mark.parametrize("keys", [[], [""], ["short"], ["!" * 44], [NEW, "c2hvcnQ="]])
def test_bad_keys_are_refused_without_showing_them(keys: list[str]) -> None:
    with pytest.raises(ValueError, match="vault") as caught:
        Vault(keys)
    assert NEW not in str(caught.value)


def test_the_keys_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vault, "_vault", None)
    with pytest.raises(RuntimeError, match="no keys"):
        vault.seal("t", "shippo", "x")
    vault.configure([NEW])
    assert vault.open_("t", "shippo", vault.seal("t", "shippo", "x")) == "x"
    assert vault.seal("t", "shippo", "x").startswith(vault.newest())
