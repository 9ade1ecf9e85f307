"""Writers that change everything at random, each over a connection of its own."""

from __future__ import annotations

import random
import threading
import time
from typing import Any

import psycopg

LEVELS = ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")

_COORDS = "ARRAY[{}]::float8[]"
# What another writer may cause at any time.
EXPECTED = (
    psycopg.errors.SerializationFailure,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.LockNotAvailable,
    psycopg.errors.UniqueViolation,
    psycopg.errors.ForeignKeyViolation,
    psycopg.errors.CardinalityViolation,
    # An event of a trajectory that has ended.
    psycopg.errors.IntegrityConstraintViolation,
    # TRUNCATE with an older snapshot.
    psycopg.errors.ObjectNotInPrerequisiteState,
)


def _id(chance: random.Random) -> str:
    return f"00000000-0000-4000-8000-{chance.randrange(60):012}"


def _coords(chance: random.Random) -> str:
    """Return the values of three coordinate arrays, on one or two levels."""
    levels = chance.sample(range(3), chance.randint(0, 2))
    arrays = []
    for _ in "xyz":
        values = [str(chance.randint(0, 9)) if level in levels else "NULL" for level in range(8)]
        arrays.append(_COORDS.format(", ".join(values)))
    return ", ".join(arrays)


def statement(chance: random.Random) -> str:
    """Return a statement that writes."""
    a, b = _id(chance), _id(chance)
    token = f"('{a}', {_coords(chance)}, {chance.random()})"
    x, y, z = _coords(chance).split("[], ")
    columns = "(id, coord_x, coord_y, coord_z, weight)"
    moved = f"coord_x = {x}[], coord_y = {y}[], coord_z = {z}"
    return chance.choice(
        [
            f"INSERT INTO tokens.tokens {columns} VALUES {token}",
            f"INSERT INTO tokens.tokens {columns} VALUES {token} ON CONFLICT DO NOTHING",
            f"INSERT INTO tokens.tokens {columns} VALUES {token}"
            " ON CONFLICT (id) DO UPDATE SET weight = excluded.weight, coord_x = excluded.coord_x,"
            " coord_y = excluded.coord_y, coord_z = excluded.coord_z",
            f"UPDATE tokens.tokens SET {moved} WHERE id = '{a}'",
            f"UPDATE tokens.tokens SET weight = weight / 2 WHERE weight > {chance.random()}",
            f"UPDATE tokens.tokens SET metadata = '{{\"n\": {chance.randrange(9)}}}' WHERE id < '{a}'",
            f"UPDATE tokens.tokens SET id = '{b}' WHERE id = '{a}'",
            f"DELETE FROM tokens.tokens WHERE id = '{a}'",
            f"DELETE FROM tokens.tokens WHERE weight < {chance.random() / 5}",
            # The same row deleted and inserted again, by either order of the triggers.
            f"WITH gone AS (DELETE FROM tokens.tokens WHERE id = '{a}' RETURNING *)"
            f" INSERT INTO tokens.tokens SELECT * FROM gone{chance.choice(['', ' LIMIT 1'])}",
            "INSERT INTO graph.connections (source_id, target_id, weight)"
            f" SELECT a.id, b.id, {chance.random()} FROM tokens.tokens AS a, tokens.tokens AS b"
            f" WHERE a.id < '{a}' AND b.id > '{b}' LIMIT 3",
            f"UPDATE graph.connections SET weight = {chance.random()} WHERE source_id = '{a}'",
            f"UPDATE graph.connections SET target_id = source_id WHERE target_id = '{a}'",
            f"DELETE FROM graph.connections WHERE weight < {chance.random() / 3}",
            "INSERT INTO experience.experience_events (event_type, token_id, reward, trajectory_id)"
            f" SELECT 'seen', id, weight, '{b}' FROM tokens.tokens WHERE id = '{a}'",
            f"UPDATE experience.experience_events SET reward = {chance.random()}"
            f" WHERE trajectory_id = '{a}'",
            f"DELETE FROM experience.experience_events WHERE reward < {chance.random() / 3}",
            f"UPDATE experience.experience_trajectories SET ended_at = now() WHERE id = '{a}'",
            f"DELETE FROM experience.experience_trajectories WHERE id = '{a}'",
        ]
        + ["TRUNCATE experience.experience_events", "TRUNCATE tokens.tokens CASCADE"]
        * (chance.random() < 0.1)
    )


class Writers:
    """Threads that write until they are told to stop; an error that no writer may see is kept."""

    def __init__(self, url: str, count: int, seed: int) -> None:
        self._url = url
        self._stop = threading.Event()
        self.errors: list[BaseException] = []
        self.committed = 0
        self._threads = [
            threading.Thread(target=self._write, args=[random.Random(seed * 100 + number)])
            for number in range(count)
        ]

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait(self, committed: int) -> None:
        """Wait until some more transactions are committed, or a writer has failed."""
        goal = self.committed + committed
        deadline = time.monotonic() + 60
        while self.committed < goal and not self.errors and time.monotonic() < deadline:
            time.sleep(0.01)

    def _write(self, chance: random.Random) -> None:
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute("SET lock_timeout = '2s'")
            while not self._stop.is_set():
                try:
                    self._transaction(connection, chance)
                except EXPECTED:
                    connection.execute("ROLLBACK")
                except BaseException as error:
                    self.errors.append(error)
                    return

    def _transaction(self, connection: psycopg.Connection[Any], chance: random.Random) -> None:
        if chance.random() < 0.3:
            connection.execute(statement(chance))
            self.committed += 1
            return
        connection.execute(f"BEGIN ISOLATION LEVEL {chance.choice(LEVELS)}")
        if chance.random() < 0.3:
            # A snapshot that is older than what comes.
            connection.execute("SELECT count(*) FROM tokens.tokens")
            self._stop.wait(chance.random() / 50)
        for _ in range(chance.randint(1, 4)):
            if chance.random() < 0.25:
                connection.execute(
                    f"SAVEPOINT here; {statement(chance)}; ROLLBACK TO SAVEPOINT here"
                )
            connection.execute(statement(chance))
        is_kept = chance.random() < 0.8
        connection.execute("COMMIT" if is_kept else "ROLLBACK")
        self.committed += is_kept
