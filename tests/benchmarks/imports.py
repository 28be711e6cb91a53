"""Importing a file of 100,000 rows of eight columns, against a raw COPY of the same file into a bare table.

What is measured is all that the job does: counting, parsing, checking every cell, leaving out duplicates, and inserting
into the table with all its indexes, batch by batch, each with its counters, its checkpoint and its events. The raw COPY
parses nothing in Python, checks nothing, and its table has no index; the row-by-row way is what a view does that saves
one object per row, each with its own look-up for duplicates and one commit at the end. Memory is that of the worker's
process and of the process that reads for it, each at its highest. The ratio is the median of the turns.

What PostgreSQL takes for the keys by themselves is told by a COPY of rows that were checked and freed of duplicates
beforehand into a table with the same columns, keys and indexes: nothing that keeps them can be faster than that.
"""

from __future__ import annotations

import csv
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg

from services.imports.service import service
from tests.benchmarks.bench import ROOT, Place, Result, place

__all__ = ["import_file", "main", "write"]

_HEADER = ("Title", "SKU", "Description", "Category", "Unit cost", "Status", "Color", "Size")
_MAPPING = {
    "title": 0, "sku": 1, "description": 2, "category": 3, "unit_cost": 4, "status": 5,
    "custom:Color": 6, "custom:Size": 7,
}  # fmt: skip
_BARE = "CREATE TABLE bare (" + ", ".join(f"c{number} text" for number in range(len(_HEADER))) + ")"


def rows(count: int) -> Iterator[tuple[str, ...]]:
    """Give the rows of the file; one in a hundred repeats the title of an earlier one."""
    colors, sizes = ("red", "green", "blue", "kraft"), ("S", "M", "L", "XL")
    for number in range(count):
        name = number - 50 if number % 100 == 99 else number
        yield (
            f"Sample box number {name}",
            f"SB-{number:07d}",
            f"A sturdy box for samples, the {number}th of its kind, with a lid",
            f"Boxes > {colors[number % 4]}",
            f"{number % 90 + 10}.{number % 100:02d}",
            "active",
            colors[number % 4],
            sizes[number % 3],
        )


def write(path: Path, count: int) -> None:
    """Write the file."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(_HEADER)
        writer.writerows(rows(count))


def main(long: bool) -> Result:
    count, turns = (100_000, 3) if long else (2_000, 1)
    result = Result("Importing a file")
    raw: list[float] = []
    keyed: list[float] = []
    ours: list[float] = []
    begun: list[float] = []
    with place(service) as here:
        path = Path(here.environment["BACKROOM_DATA_DIR"]) / "catalog.csv"
        write(path, count)
        for _ in range(turns):
            raw.append(count / _raw_copy(here, path))
            keyed.append(count / _keyed_copy(here, path))
            done = import_file(here, path)
            ours.append(count / done.seconds)
            begun.append(done.begun)
        slow = min(count // 50, 1000)
        by_row = slow / _row_by_row(here, slow)
        ratio = statistics.median(a / b for a, b in zip(ours, raw, strict=True))
        rate = statistics.median(ours)
        result.add("raw COPY into a bare table", f"{statistics.median(raw):,.0f} rows/s")
        result.add("import, against that", f"{ratio:.2f}x ({rate:,.0f} rows/s)", "at least 0.25x", ratio >= 0.25)
        bound = statistics.median(a / b for a, b in zip(keyed, raw, strict=True))
        result.add("COPY of checked rows into a table with the keys, against the bare one", f"{bound:.2f}x")
        result.add(
            "asked for, and its rows counted: from then on progress is true",
            f"{max(begun):.2f} s",
            "within 1 s",
            max(begun) <= 1,
        )
        result.add("one object per row", f"{by_row:,.0f} rows/s")
        result.add("import, against that", f"{rate / by_row:,.0f}x", "at least 100x", rate / by_row >= 100)
        if long:
            write(path, 10_000)
            few = import_file(here, path).memory
            write(path, 1_000_000)
            many = import_file(here, path).memory
            result.add(
                "memory of worker and reader, 10,000 rows → 1,000,000 rows",
                f"{few / 1024:,.0f} MB → {many / 1024:,.0f} MB ({many / few:.2f}x)",
                "at most 1.2x",
                many <= 1.2 * few,
            )
    return result


def _raw_copy(here: Place, path: Path) -> float:
    with psycopg.connect(here.database_url, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS bare")
        connection.execute(_BARE.encode())
        began = time.perf_counter()
        with connection.cursor().copy("COPY bare FROM STDIN (FORMAT csv, HEADER)") as copy, path.open("rb") as file:
            while block := file.read(1 << 18):
                copy.write(block)
        return time.perf_counter() - began


def _keyed_copy(here: Place, path: Path) -> float:
    from services.imports.reading.detect import Dialect
    from services.imports.reading.kinds import KINDS
    from services.imports.reading.layout import lay_out, stage
    from services.imports.reading.table import Batch, batches

    known: set[str] = set()
    prepared = []
    with path.open("rb") as file:
        for batch in batches(file, Dialect("utf-8", ","), size=5_000):
            fresh = [row for row in batch.rows if not (row[0] in known or known.add(row[0]))]  # type: ignore[func-returns-value]
            laid = lay_out(KINDS["samples"], _MAPPING, _HEADER, Batch(batch.first, fresh))
            prepared.append(stage(laid.numbers, laid.columns))
    names = ", ".join(("import_row", "id", *prepared[0].names))
    with psycopg.connect(here.database_url, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS keyed")
        connection.execute("CREATE TABLE keyed (LIKE samples INCLUDING ALL)")
        connection.execute("ALTER TABLE keyed ALTER tenant_id SET DEFAULT 'acme'")
        began = time.perf_counter()
        for staged in prepared:
            with connection.cursor().copy(f"COPY keyed ({names}) FROM STDIN".encode()) as copy:
                copy.write(staged.data)
        return time.perf_counter() - began


@dataclass(frozen=True)
class _Done:
    seconds: float
    begun: float
    """Seconds until the rows were counted."""
    memory: int
    """KB, at the highest, of the worker and of the process that reads for it."""


def import_file(here: Place, path: Path) -> _Done:
    """Import the file in a process of its own, into empty tables."""
    _empty(here)
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.imports", str(path)],
        env=here.environment, cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    seconds, begun, memory = done.stdout.split()[-3:]
    return _Done(float(seconds), float(begun), int(memory))


def _empty(here: Place) -> None:
    with psycopg.connect(here.database_url, autocommit=True) as owner:
        owner.execute("TRUNCATE samples, categories, imports, uploads, import_failures, jobs, outbox CASCADE")


def _row_by_row(here: Place, count: int) -> float:
    """The plain way: a look-up and an object for each row."""
    from sqlalchemy import or_, select

    from services.imports.models import Sample
    from services.imports.reading.kinds import normalize_key
    from shared.db import unit_of_work

    _empty(here)
    began = time.perf_counter()
    with unit_of_work() as session:
        for title, sku, description, _, _, status, color, size in rows(count):
            keys = normalize_key(title), normalize_key(sku)
            twin = select(Sample.id).where(or_(Sample.title_key == keys[0], Sample.sku_key == keys[1]))
            if session.scalar(twin) is None:
                custom = {"Color": color, "Size": size}
                sample = Sample(title=title, title_key=keys[0], sku=sku, sku_key=keys[1], custom_fields=custom)
                sample.description, sample.status = description, status
                session.add(sample)
                session.flush()
    return time.perf_counter() - began


def _one(path: str) -> None:
    """In the process of its own: upload and import one file, as request and worker do."""
    from services.imports.files import HEAD, receive, upload_key
    from services.imports.jobs import run_import
    from services.imports.models import Import, Upload
    from services.imports.reading.detect import detect
    from shared.context import use
    from shared.db import new_id, unit_of_work
    from shared.jobs.actor import Dispatch
    from shared.runtime.app import build
    from shared.runtime.settings import Settings, load

    app = build(service, load(Settings))
    app.database.use_as_default()
    app.liveness.start()
    with use(tenant_id="acme", service="imports"):
        upload_id = new_id()
        key = upload_key("acme", upload_id)
        with open(path, "rb") as file:
            received = receive(key, file)
        dialect = detect(received.head, whole=received.size <= HEAD)
        with unit_of_work() as session:
            session.add(
                Upload(
                    id=upload_id, created_by="bench", file_name="catalog.csv", blob_key=key, size=received.size,
                    sha256=received.sha256, head=received.head, encoding=dialect.encoding, delimiter=dialect.delimiter,
                )
            )  # fmt: skip
            row = Import(
                kind="samples", mode="create", upload_id=upload_id, file_name="catalog.csv", encoding=dialect.encoding,
                delimiter=dialect.delimiter, mapping=_MAPPING,
                header=list(_HEADER), requested_by="bench",
            )  # fmt: skip
            session.add(row)
            session.flush()
            message = run_import.send(import_id=row.id, file_name=row.file_name)
    import uuid

    job_id = uuid.UUID(message.message_id)
    with app.database.system.begin() as connection:
        connection.exec_driver_sql("UPDATE jobs SET state = 'queued', dispatch = 1 WHERE id = %s", (job_id,))
    began = time.perf_counter()
    app.runner.run(run_import, Dispatch([(job_id, 1)], False))
    seconds = time.perf_counter() - began
    with app.database.system.begin() as connection:
        state = connection.exec_driver_sql("SELECT state FROM jobs WHERE id = %s", (job_id,)).scalar_one()
        begun = connection.exec_driver_sql(
            "SELECT extract(epoch FROM imports.started_at - jobs.created_at) FROM imports JOIN jobs ON jobs.id = job_id"
        ).scalar_one()
    if state != "succeeded":
        raise RuntimeError(f"the import is {state}")
    memory = sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(seconds, begun, memory)


if __name__ == "__main__":
    _one(sys.argv[1])
