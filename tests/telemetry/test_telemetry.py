"""What is seen from outside: log records and spans name each statement, and hold no value of anybody's."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
import uuid

import numpy as np
import pandas as pd
import psycopg
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

import ngdata
from ngdata._config import postgres_url
from ngdata.errors import DatabaseUnavailable, IntegrityError, InvalidQueryError, NotFoundError
from ngdata.repositories import DatabaseFactory, RepositoryFactory

CANARY = "canary7f3a"
PLACE = 76543.25
IDS = [str(uuid.UUID(int=0xCAFEF00D << 96 | number)) for number in range(3)]
# Parts of the above, which no record may have.
VALUES = (CANARY, "76543", "cafef00d")

EXPORTER = InMemorySpanExporter()


@pytest.fixture(scope="module", autouse=True)
def _provider():
    """A program that exports spans; there is one provider per process."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(EXPORTER))
    trace.set_tracer_provider(provider)
    yield
    provider.shutdown()


@pytest.fixture
def spans():
    """Return the function that returns the spans that ended since it was last called."""

    def take():
        ended = EXPORTER.get_finished_spans()
        EXPORTER.clear()
        return [span for span in ended if span.instrumentation_scope.name == "ngdata"]

    take()
    return take


@pytest.fixture
def records(caplog):
    """Return the function that returns the records of the logger since it was last called."""
    caplog.set_level(logging.DEBUG, logger="ngdata")

    def take():
        ours = [record for record in caplog.records if record.name == "ngdata"]
        caplog.clear()
        return ours

    take()
    return take


def kinds(records):
    return [record.kind for record in records if record.levelno == logging.DEBUG]


def everything_in(records, spans):
    """Return all text that the records and the spans hold."""
    formatter = logging.Formatter()
    return "\n".join(
        [
            *(f"{formatter.format(record)} {vars(record)}" for record in records),
            *(span.to_json() for span in spans),
        ]
    )


def work(ng):
    """Read and write, with success and without, with values that can be recognized."""
    place = (PLACE, PLACE, PLACE)
    box = ((PLACE - 1,) * 3, (PLACE + 1,) * 3)
    frame = pd.DataFrame(
        {"token_id": IDS, "x": PLACE, "y": PLACE, "z": PLACE, "token_type": CANARY},
    )
    ng.tokens.bulk_create(frame)
    one = ng.tokens.create({0: place}, token_type=CANARY, metadata={CANARY: CANARY})
    ng.tokens.get(IDS)
    ng.tokens.find_in_region(*box, token_type=CANARY, where={CANARY: CANARY})
    ng.tokens.find_nearest(place, k=2)
    list(ng.tokens.iter_region(*box, chunk_rows=2))
    ng.tokens.update(one, token_type=f"{CANARY}2")
    ng.graph.create_connection(IDS[0], IDS[1], CANARY)
    ng.graph.get_neighbors(IDS)
    ng.experience.create_event(CANARY, state_before={CANARY: PLACE}, token_id=IDS[0])
    ng.experience.get_events(event_type=CANARY)
    ng.sql("SELECT $1::text AS a", [CANARY])
    ng.explain(ng.tokens.find_in_region, *box)
    ng.set_level(0, unit=CANARY)
    for error, call in (
        (NotFoundError, lambda: ng.tokens.get(str(uuid.UUID(int=0xCAFEF00D << 96 | 99)))),
        (IntegrityError, lambda: ng.tokens.bulk_create(frame)),
        (InvalidQueryError, lambda: ng.sql(f"SELECT {CANARY}")),
        (InvalidQueryError, lambda: ng.tokens.find_in_region(box[1], box[0], token_type=CANARY)),
    ):
        with pytest.raises(error):
            call()
    ng.tokens.delete([*IDS, one])


EXPECTED = [
    "tokens.bulk_create",
    "tokens.create",
    "tokens.get",
    "tokens.find_in_region",
    "tokens.find_nearest",
    "tokens.iter_region",
    "tokens.update",
    "graph.create_connection",
    "graph.get_neighbors",
    "experience.create_event",
    "experience.get_events",
    "sql",
    "explain",
    "set_level",
    "tokens.get",
    "tokens.bulk_create",
    "sql",
    "tokens.delete",
]


def test_each_statement_is_logged_and_has_a_span_and_no_value_is_in_either(ng, records, spans):
    records()
    spans()
    work(ng)
    logged, ended = records(), spans()
    assert kinds(logged) == EXPECTED
    assert [span.name for span in ended] == EXPECTED
    text = everything_in(logged, ended).lower()
    for value in VALUES:
        assert value not in text


def test_a_record_has_rows_time_and_source_as_text_and_as_fields(ng, records):
    ng.tokens.bulk_create(pd.DataFrame({"x": [1.0, 2], "y": 0.0, "z": 0.0}))
    box = ((0, 0, 0), (5, 5, 5))
    ng.tokens.find_in_region(*box)
    records()
    ng.tokens.find_in_region(*box)
    (record,) = records()
    assert (record.kind, record.rows, record.source) == ("tokens.find_in_region", 2, "memory")
    assert record.milliseconds > 0
    assert record.failure is None
    assert record.getMessage() == (
        f"tokens.find_in_region: 2 rows, {record.milliseconds:.1f} ms, memory"
    )


def test_rows_of_writes_are_those_that_were_written(ng, records):
    frame = pd.DataFrame({"token_id": IDS, "x": 1.0, "y": 0.0, "z": 0.0})
    ng.tokens.bulk_create(frame)
    ng.tokens.bulk_create(frame, on_conflict="skip")
    ng.tokens.bulk_create(frame, on_conflict="update")
    ng.tokens.update(IDS[:2], weight=2.0)
    ng.tokens.delete(IDS)
    rows = [record.rows for record in records() if record.kind.startswith("tokens.")]
    assert rows == [3, 0, 3, 2, 3]


def test_a_failure_has_the_class_of_its_error_alone(ng, records, spans):
    records()
    spans()
    with pytest.raises(InvalidQueryError):
        ng.sql(f"SELECT {CANARY}")
    (record,), (span,) = records(), spans()
    assert (record.kind, record.failure) == ("sql", "InvalidQueryError")
    assert record.exc_info is None
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description is None
    assert dict(span.attributes) == {
        "db.system.name": "postgresql",
        "db.operation.name": "sql",
        "error.type": "InvalidQueryError",
    }
    assert not span.events


def test_a_span_is_a_child_of_the_callers_and_has_rows_and_source(ng, spans):
    ng.tokens.create({0: (0, 0, 0)})
    spans()
    with trace.get_tracer("a program").start_as_current_span("step") as parent:
        ng.tokens.find_nearest((0, 0, 0), k=5)
    (span,) = spans()
    assert span.parent.span_id == parent.get_span_context().span_id
    assert span.attributes["db.response.returned_rows"] == 1
    assert span.attributes["ngdata.source"] == "database"


def test_the_async_client_is_seen_as_the_sync_one(database_url, records, spans):
    async def read():
        async with await ngdata.connect_async(database_url) as ang:
            with trace.get_tracer("a program").start_as_current_span("step") as parent:
                await asyncio.gather(
                    ang.tokens.create({0: (0, 0, 0)}), ang.graph.get_degree(), ang.describe()
                )
            async for _ in ang.tokens.iter_region((0, 0, 0), (1, 1, 1)):
                pass
        return parent

    parent = asyncio.run(read())
    of_calls = ["tokens.create", "graph.get_degree", "describe"]
    assert sorted(kinds(records())[1:]) == sorted([*of_calls, "tokens.iter_region"])
    ended = {span.name: span for span in spans()}
    for name in of_calls:
        assert ended[name].parent.span_id == parent.get_span_context().span_id


def test_sessions_of_entities_are_seen(database_url, monkeypatch, records, spans):
    async def write():
        monkeypatch.setenv("NGDATA_DATABASE_URL", database_url)
        db_manager = await DatabaseFactory.create_database_manager()
        async with db_manager.session() as session:
            tokens = RepositoryFactory.create_token_repository(session)
            await tokens.find_by_type(CANARY)
        await DatabaseFactory.close_all()

    asyncio.run(write())
    logged, ended = records(), spans()
    assert "session" in kinds(logged)
    assert CANARY not in everything_in(logged, ended)


def test_a_lost_connection_is_a_warning_without_a_value(ng, database_url, records, spans):
    ng.tokens.find_nearest((PLACE, 0, 0), k=1, token_type=CANARY)
    records()
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    ng.tokens.find_nearest((PLACE, 1, 0), k=1, token_type=CANARY)
    ng.tokens.create({0: (PLACE, 0, 0)}, token_type=CANARY)
    logged = records()
    warnings = [record.getMessage() for record in logged if record.levelno == logging.WARNING]
    assert any("reading again on a new one" in text for text in warnings)
    text = everything_in(logged, spans()).lower()
    for value in VALUES:
        assert value not in text


def test_an_outage_is_a_warning_that_has_no_password(records, spans):
    url = f"postgresql://teller:{CANARY}@127.0.0.1:1/store"
    with pytest.raises(DatabaseUnavailable):
        ngdata.connect(url, connect_timeout=2)
    logged, ended = records(), spans()
    (warning,) = [record for record in logged if record.levelno == logging.WARNING]
    assert warning.getMessage() == (
        f"{postgres_url.without_password(url)} is not available (DatabaseUnavailable)"
    )
    assert [record.failure for record in logged if record.levelno == logging.DEBUG] == [
        "DatabaseUnavailable"
    ]
    assert CANARY not in everything_in(logged, ended)


@pytest.mark.filterwarnings("ignore:Redis is unavailable")
def test_an_outage_of_redis_is_a_warning_and_answers_say_where_they_came_from(
    database_url, records, tmp_path
):
    with ngdata.connect(database_url, redis_url=f"unix://{tmp_path}/none?password={CANARY}") as ng:
        ng.tokens.bulk_create(pd.DataFrame(np.zeros((2, 3)), columns=list("xyz")))
        ng.tokens.find_in_region((0, 0, 0), (1, 1, 1), token_type=CANARY)
        ng.tokens.find_in_region((0, 0, 0), (1, 1, 1))
    logged = records()
    warnings = [record.getMessage() for record in logged if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert warnings[0].startswith("Redis is not available for reads (")
    assert CANARY not in everything_in(logged, [])


def test_without_a_listener_nothing_is_imported_or_written(database_url):
    code = f"""
import sys, ngdata
with ngdata.connect({database_url!r}) as ng:
    ng.tokens.create({{0: (0, 0, 0)}})
    ng.tokens.find_nearest((0, 0, 0), k=1)
from ngdata._connections import telemetry
assert telemetry.observed("read") is telemetry._UNOBSERVED
print([name for name in sys.modules if name.startswith("opentelemetry")])
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (ran.stdout, ran.stderr) == ("[]\n", "")


def test_a_program_that_has_opentelemetry_without_a_provider_sees_nothing(database_url):
    code = f"""
import logging, ngdata
from opentelemetry import trace
logging.basicConfig(format="%(name)s %(levelname)s %(message)s")
logging.getLogger("ngdata").setLevel(logging.DEBUG)
with ngdata.connect({database_url!r}) as ng:
    ng.tokens.find_nearest((0, 0, 0), k=1)
"""
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True
    )
    lines = ran.stderr.splitlines()
    assert all(line.startswith("ngdata DEBUG ") for line in lines)
    assert any("tokens.find_nearest: 0 rows" in line for line in lines)
    assert json.dumps(lines).count("Traceback") == 0
