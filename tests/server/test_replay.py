"""Recovery to every record: wherever the WAL ends, the index is whole.

A run with splits, merges, page reuse and index builds is recorded.  A standby is then given its WAL up to the end of
one record that concerns an index after the other, and asked for a check each time: as nothing is replayed meanwhile, it
is as strict as on a primary.  After some records a standby is promoted and has to go on.

Environment: ``WINNOW_REPLAY_ROUNDS`` (default 1) sets the length of the run, ``WINNOW_REPLAY_PROMOTIONS`` (default 5)
after how many records a server goes on.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import psycopg
import pytest

from cluster import base_backup, copied_server, temporary_server
from patience import eventually
from pgwinnow.server import Server
from server.load import NEAREST, create_table, fill, vector
from server.oracle import Connection, check_exact, check_indexes, winnow_indexes

ROUNDS = int(os.environ.get("WINNOW_REPLAY_ROUNDS", "1"))
PROMOTIONS = int(os.environ.get("WINNOW_REPLAY_PROMOTIONS", "5"))

SEGMENT = 16 << 20
STANDBY = {
    "max_standby_archive_delay": "-1",
    "max_standby_streaming_delay": "-1",
    "wal_retrieve_retry_interval": "1ms",
    "wal_consistency_checking": "all",
    # Indexes that a record leaves locked are not looked at.
    "lock_timeout": "20ms",
}


@dataclass(frozen=True)
class Recording:
    """A backup, and the WAL of what was done after it."""

    primary: Server
    backup: Path
    backup_begin: int
    """Where the segment begins whose WAL the backup needs first."""
    begin: int
    """Where the run begins."""
    end: int
    files: frozenset[str]
    """The indexes' files, as the WAL names them."""

    def records(self) -> list[tuple[int, int]]:
        """Begin and end of the records of the run that concern an index."""
        output = self.primary.run(
            "pg_waldump",
            f"--path={self.primary.data_dir / 'pg_wal'}",
            f"--start={lsn_text(self.begin)}",
            f"--end={lsn_text(self.end)}",
        )
        begins = []
        wanted = []
        for line in output.splitlines():
            found = re.search(r"lsn: (\w+/\w+),", line)
            assert found is not None, line
            begins.append(lsn_number(found[1]))
            wanted.append(not self.files.isdisjoint(re.findall(r"rel (\d+/\d+/\d+) ", line)))
        ends = [*begins[1:], self.end]
        return [(begin, end) for begin, end, is_wanted in zip(begins, ends, wanted, strict=True) if is_wanted]

    def wal(self, begin: int, end: int) -> Iterator[tuple[str, int, bytes]]:
        """The bytes of a stretch of WAL: name of a segment's file, offset there, content."""
        while begin < end:
            offset = begin % SEGMENT
            length = min(end - begin, SEGMENT - offset)
            name = f"{1:08X}{begin >> 32:08X}{(begin & 0xFFFFFFFF) // SEGMENT:08X}"
            with (self.primary.data_dir / "pg_wal" / name).open("rb") as segment:
                segment.seek(offset)
                yield name, offset, segment.read(length)
            begin += length


def lsn_number(text: str) -> int:
    high, low = text.split("/")
    return (int(high, 16) << 32) + int(low, 16)


def lsn_text(number: int) -> str:
    return f"{number >> 32:X}/{number & 0xFFFFFFFF:X}"


class Standby:
    """A standby that gets WAL as far as it is told, and no further."""

    def __init__(self, recording: Recording, name: str) -> None:
        data_dir = recording.backup.with_name(name)
        subprocess.run(["cp", "--archive", recording.backup, data_dir], check=True)
        self.recording = recording
        self.server = copied_server(data_dir, **STANDBY)
        self._fed = recording.backup_begin

    def feed(self, end: int) -> None:
        """Hand over the WAL up to a position."""
        for name, offset, content in self.recording.wal(self._fed, end):
            path = self.server.data_dir / "pg_wal" / name
            if not path.exists():
                folder = path.parent.stat()
                new = path.with_name("new")
                new.touch()
                os.truncate(new, SEGMENT)
                os.chown(new, folder.st_uid, folder.st_gid)
                new.rename(path)
            with path.open("r+b") as segment:
                segment.seek(offset)
                segment.write(content)
        self._fed = end


def value(connection: Connection, sql: str) -> str:
    row = connection.execute(sql).fetchone()
    assert row is not None
    return str(row[0])


def wait_for_replay(connection: Connection, begin: int, end: int) -> None:
    """Wait until the record that takes this stretch has been replayed, the last one there is."""

    def replayed() -> int:
        return lsn_number(value(connection, "SELECT pg_last_wal_replay_lsn()"))

    eventually(f"the record at {lsn_text(begin)} is replayed", lambda: replayed() > begin)
    assert replayed() <= end


@pytest.fixture(scope="module")
def recording(seed: int) -> Iterator[Recording]:
    rng = Random(f"{seed}-replay")
    # Nothing but the statements below is to write WAL, and none of it may be recycled.
    settings = {"wal_keep_size": "2GB", "checkpoint_timeout": "1h", "wal_consistency_checking": "all"}
    with temporary_server(**settings) as primary, psycopg.connect(primary.dsn(), autocommit=True) as connection:
        connection.execute("CREATE EXTENSION winnow")
        create_table(connection)
        backup = base_backup(primary, "backup", "--wal-method=none", "--no-manifest")
        (backup / "standby.signal").touch()
        label = re.search(r"START WAL LOCATION: (\S+)", (backup / "backup_label").read_text())
        assert label is not None
        backup_begin = lsn_number(label[1])
        begin = lsn_number(value(connection, "SELECT pg_current_wal_flush_lsn()"))
        files: set[str] = set()
        for statement in run(rng):
            connection.execute(statement)
            files |= index_files(connection)
        end = lsn_number(value(connection, "SELECT pg_current_wal_flush_lsn()"))
        yield Recording(primary, backup, backup_begin - backup_begin % SEGMENT, begin, end, frozenset(files))


def run(rng: Random) -> Iterator[str]:
    """Statements that make lists split, merge, move and be built, each a transaction."""
    for first in range(0, 1000 * ROUNDS, 1000):
        yield from inserts(rng, first, first + 250)
        yield f"BEGIN; {insert(rng, first + 500, first + 520)}; ROLLBACK"
        # Nearly everything goes: lists are merged or dropped, the root is lowered ...
        yield f"DELETE FROM items WHERE id % 1000 > {rng.randint(5, 40)} OR id < {first}"
        yield "VACUUM (INDEX_CLEANUP ON) items"
        # ... and their pages are taken into use again.
        yield from inserts(rng, first + 600, first + 700)
        yield f"UPDATE items SET bucket = bucket + 1000 WHERE id % 3 = {rng.randrange(3)}"
        yield f"DELETE FROM items WHERE {NEAREST} > 5.5 AND id % 5 > 0"
        yield "VACUUM (INDEX_CLEANUP ON) items"
        yield from inserts(rng, first + 700, first + 720)
        yield "CREATE INDEX items_other ON items USING winnow (e vector_l2_ops, label) WITH (list_size = 16, bits = 4)"
        yield from inserts(rng, first + 720, first + 740)
        yield "DROP INDEX items_other"
        yield "REINDEX INDEX items_index"
        yield "VACUUM (INDEX_CLEANUP ON) items"


def insert(rng: Random, first: int, last: int) -> str:
    values = ", ".join(f"({i}, {rng.randint(0, 50)}, 'label {i % 17}', '{vector(rng)}')" for i in range(first, last))
    return f"INSERT INTO items VALUES {values}"


def inserts(rng: Random, first: int, last: int) -> Iterator[str]:
    """The same by several transactions, so that the check meets rows that it sees."""
    while first < last:
        end = min(first + rng.randint(1, 8), last)
        yield insert(rng, first, end)
        first = end


def index_files(connection: Connection) -> set[str]:
    """The files of all winnow indexes, as pg_waldump names them."""
    records = connection.execute(
        "SELECT t.oid, d.oid, pg_relation_filenode(i.oid) FROM pg_class i JOIN pg_am a ON a.oid = i.relam,"
        " pg_database d, pg_tablespace t"
        " WHERE a.amname = 'winnow' AND d.datname = current_database() AND t.spcname = 'pg_default'"
    ).fetchall()
    return {"/".join(str(part) for part in record) for record in records}


def test_every_record(recording: Recording) -> None:
    records = recording.records()
    assert len(records) > 1000 * ROUNDS, "the run does too little"
    standby = Standby(recording, "standby")
    standby.feed(recording.begin)
    locked = 0
    with standby.server, psycopg.connect(standby.server.dsn(), autocommit=True) as connection:
        for number, (begin, end) in enumerate(records):
            standby.feed(end)
            wait_for_replay(connection, begin, end)
            try:
                check_indexes(connection)
                if number % 20 == 0 and winnow_indexes(connection):
                    check_exact(connection, NEAREST, "items")
            except psycopg.errors.LockNotAvailable:
                locked += 1
            except (psycopg.Error, AssertionError) as error:
                pytest.fail(f"after the record at {lsn_text(begin)}: {error}")
    assert locked < len(records) / 3


def test_promotion_after_any_record(recording: Recording, seed: int) -> None:
    """Whoever goes on after a record can add rows, delete them and vacuum."""
    rng = Random(f"{seed}-promotion")
    records = recording.records()
    for number, (begin, end) in enumerate(rng.sample(records, PROMOTIONS)):
        standby = Standby(recording, f"promoted{number}")
        standby.feed(end)
        where = f"after {lsn_text(end)}"
        with standby.server, psycopg.connect(standby.server.dsn(), autocommit=True) as connection:
            # The statement that promotes has a snapshot, for which replay would wait.
            wait_for_replay(connection, begin, end)
            connection.execute("SELECT pg_promote()")
            try:
                check_exact(connection, NEAREST, "items")
                check_indexes(connection)
                fill(connection, 100, first=10_000_000)
                connection.execute("DELETE FROM items WHERE id % 4 > 0")
                connection.execute("VACUUM (INDEX_CLEANUP ON) items")
                fill(connection, 100, first=11_000_000)
                check_exact(connection, NEAREST, "items")
                check_indexes(connection)
            except (psycopg.Error, AssertionError) as error:
                pytest.fail(f"{where}: {error}")
        shutil.rmtree(standby.server.data_dir)
