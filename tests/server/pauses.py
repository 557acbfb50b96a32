"""Sessions that stop at a point of the index's algorithms (extension/src/wait.h), while others go on."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, Concatenate, ParamSpec, TypeVar

import psycopg

from patience import PATIENCE, eventually
from pgwinnow.server import Server
from server.oracle import Connection

P = ParamSpec("P")
T = TypeVar("T")

CLASS = 7411
"""First key of the advisory locks of the points, as in wait.c."""

UNLOCK = "SELECT pg_advisory_unlock(%s, hashtext(%s))"
WAITING = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = %s AND NOT granted"
BLOCKED = (
    "SELECT wait_event_type IN ('Lock', 'Extension')"
    " OR wait_event IN ('BufferContent', 'BufferExclusive', 'BufferShared')"
    " FROM pg_stat_activity WHERE pid = %s"
)


def take(connection: Connection, point: str) -> None:
    """Take the lock of a point."""
    connection.execute("SELECT pg_advisory_lock(%s, hashtext(%s))", [CLASS, point])


class Session:
    """A connection with a thread that uses it."""

    def __init__(self, dsn: str) -> None:
        self.connection: Connection = psycopg.connect(dsn, autocommit=True)
        self.pid = self.connection.info.backend_pid
        self._thread = ThreadPoolExecutor(1)
        self._works: list[Future[Any]] = []

    def start(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Let the thread do something with the connection."""
        future = self._thread.submit(work, self.connection, *args, **kwargs)
        self._works.append(future)
        return future

    def comes_to_an_end(self) -> bool:
        """Wait until the thread has nothing to do; it never does if backends wait for one another."""
        return not wait(self._works, PATIENCE).not_done

    def close(self) -> None:
        """Close the connection, whatever it is used for."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        self.connection.close()


class Gate:
    """Points where sessions wait.  It is closed to begin with.

    Its own sessions are in template1: a snapshot of theirs would keep rows and pages from being removed.
    """

    def __init__(self, server: Server, *points: str) -> None:
        self.points = points
        self._keepers = [Session(server.dsn("template1")), Session(server.dsn("template1"))]
        self._observer: Connection = psycopg.connect(server.dsn("template1"), autocommit=True)
        for point in points:
            take(self._keepers[0].connection, point)
        self._keeper = dict.fromkeys(points, 0)

    def setting(self) -> str:
        """SQL that makes a session stop at the points."""
        return f"SET winnow.wait_points = '{','.join(self.points)}'"

    def wait_for(self, paused: Future[T]) -> None:
        """Wait until a session has come to a point; it must, before it ends."""
        eventually("the session comes to the point", lambda: self._waiting() > 0 or paused.done())
        if paused.done():
            paused.result()
            raise AssertionError(f"it did not come by {self.points}")

    def blocks(self, future: Future[T], session: Session) -> bool:
        """Wait until a session has to wait for a lock, or is done: which of them?"""

        def is_blocked() -> bool:
            record = self._observer.execute(BLOCKED, [session.pid]).fetchone()
            return record is not None and bool(record[0])

        eventually("the session ends, or waits for a lock", lambda: future.done() or is_blocked())
        return not future.done()

    def step(self, point: str, paused: Future[T]) -> bool:
        """Let the session that waits at a point go on, to the next passage of that point or its end: which of them?"""
        # Who waits first gets the lock first: the other keeper has it as soon as the session has passed.
        other = 1 - self._keeper[point]
        before = self._waiting()
        taken = self._keepers[other].start(take, point)
        eventually("the other keeper waits too", lambda: self._waiting() > before)
        self.open(point)
        taken.result(PATIENCE)
        self._keeper[point] = other
        eventually("the session comes to a point, or ends", lambda: self._waiting() > 0 or paused.done())
        return not paused.done()

    def open(self, point: str | None = None) -> None:
        """Let all that wait at the point, or at any, go on; nobody waits there any more."""
        for name in self.points if point is None else [point]:
            self._keepers[self._keeper[name]].connection.execute(UNLOCK, [CLASS, name])

    def close(self) -> None:
        """End it, whoever waits."""
        for keeper in self._keepers:
            # It may itself be waiting, if the test has failed.
            self._observer.execute("SELECT pg_terminate_backend(%s, 10000)", [keeper.pid])
            keeper.close()
        self._observer.close()

    def _waiting(self) -> int:
        record = self._observer.execute(WAITING, [CLASS]).fetchone()
        assert record is not None
        return int(str(record[0]))
