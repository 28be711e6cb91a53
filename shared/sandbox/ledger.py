"""The books: every charge and refund, and the objects of every account, saved together.

The ledger is the truth about what was charged. An entry is written in the same step as the object it
belongs to, under one lock and, with a file, in one write: no crash of the sandbox shows one without the
other.

The file is append-only JSON lines. It survives a kill of the process (it is handed to the operating system
with each call, not synced to the disk: a power cut may cost the last entries) and is read back at start; a
torn last line is dropped.
"""

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .faults import same_account


class NotALedger(Exception):
    """The file given as ledger holds something else, which is left as it is."""


class Books:
    """Objects by account and kind, and ledger entries. Thread-safe; whatever is handed out is a copy.

    An entry: {seq, kind: "charge" | "refund", provider, account, transaction, rate, metadata, amount (decimal
    string, positive), currency, tracking_number, time (ISO 8601, UTC)}.
    """

    def __init__(self, file: Path | None = None):
        self._lock = threading.RLock()
        self._objects: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
        self._entries: list[dict[str, Any]] = []
        self._journal = None
        if file is not None:
            whole_bytes = self._load(file) if file.exists() else 0
            self._journal = file.open("ab", buffering=0)
            self._journal.truncate(whole_bytes)

    def save(
        self, account: str, kind: str, key: str, item: dict[str, Any], entry: dict[str, Any] | None = None
    ) -> None:
        """Put one object, and the entry that it causes."""
        with self._lock:
            self._commit(account, kind, key, item, entry)

    def change(
        self,
        account: str,
        kind: str,
        key: str,
        changes: Mapping[str, Any],
        entry: dict[str, Any] | None = None,
        expect: Mapping[str, Any] | None = None,
    ) -> dict[str, Any] | None:
        """Change fields of an object if it has the expected values, and record the entry with it.

        Returns the object as it is now, or None (and changes and records nothing) if it is not as expected.
        """
        with self._lock:
            now = self._objects.get((account, kind), {}).get(key)
            if now is None or any(now.get(name) != value for name, value in (expect or {}).items()):
                return None
            item = {**now, **changes}
            self._commit(account, kind, key, item, entry)
            return dict(item)

    def get(self, account: str, kind: str, key: str) -> dict[str, Any] | None:
        with self._lock:
            item = self._objects.get((account, kind), {}).get(key)
            return None if item is None else dict(item)

    def find(self, account: str, kind: str, **equal: Any) -> list[dict[str, Any]]:
        """The account's objects of a kind with these values, oldest first."""
        with self._lock:
            return [
                dict(item)
                for item in self._objects.get((account, kind), {}).values()
                if all(item.get(name) == value for name, value in equal.items())
            ]

    def find_everywhere(self, kind: str, **equal: Any) -> list[tuple[str, dict[str, Any]]]:
        """(account, object) of all accounts; for the control API and for resuming after a restart."""
        with self._lock:
            accounts = [account for account, of_kind in self._objects if of_kind == kind]
            return [(account, item) for account in accounts for item in self.find(account, kind, **equal)]

    def remove(self, account: str, kind: str, key: str) -> bool:
        with self._lock:
            if self._objects.get((account, kind), {}).pop(key, None) is None:
                return False
            self._write({"removed": key, "account": account, "kind": kind})
            return True

    def entries(self, metadata: str | None = None, account: str | None = None, **equal: str) -> list[dict[str, Any]]:
        """Ledger entries in order. `metadata` is a substring; `account` a token or its last part."""
        with self._lock:
            return [
                dict(entry)
                for entry in self._entries
                if all(entry.get(name) == value for name, value in equal.items())
                and (metadata is None or metadata in entry["metadata"])
                and (account is None or same_account(account, entry["account"]))
            ]

    def reset(self) -> None:
        """Forget everything. The file keeps its lines but they no longer count."""
        with self._lock:
            self._objects.clear()
            self._entries.clear()
            self._write({"reset": True})

    def close(self) -> None:
        with self._lock:
            if self._journal is not None:
                self._journal.close()
                self._journal = None

    def _commit(self, account: str, kind: str, key: str, item: dict[str, Any], entry: dict[str, Any] | None) -> None:
        record: dict[str, Any] = {"account": account, "kind": kind, "key": key, "item": dict(item)}
        if entry is not None:
            record["entry"] = {"seq": len(self._entries) + 1, "account": account, **entry}
        self._write(record)
        self._apply(record)

    def _apply(self, record: dict[str, Any]) -> None:
        if record.get("reset"):
            self._objects.clear()
            self._entries.clear()
        elif "removed" in record:
            self._objects.get((record["account"], record["kind"]), {}).pop(record["removed"], None)
        else:
            of_kind = self._objects.setdefault((record["account"], record["kind"]), {})
            of_kind[record["key"]] = record["item"]
            if "entry" in record:
                self._entries.append(record["entry"])

    def _write(self, record: dict[str, Any]) -> None:
        if self._journal is not None:
            self._journal.write(json.dumps(record).encode() + b"\n")

    def _load(self, file: Path) -> int:
        """Replay the file; how many of its bytes are whole lines."""
        whole_bytes = 0
        with file.open("rb") as lines:
            for line in lines:
                if not line.endswith(b"\n"):
                    break
                try:
                    self._apply(json.loads(line))
                except (ValueError, KeyError, AttributeError) as error:
                    raise NotALedger(f"{file} is no ledger: unreadable at byte {whole_bytes}") from error
                whole_bytes += len(line)
        return whole_bytes
