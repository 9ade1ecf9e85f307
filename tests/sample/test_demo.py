"""`ngdata demo`: its whole output is read from the store, and it can be run again."""

import contextlib
import io
import re
import threading

import pytest

import ngdata
from ngdata.datasets import demo, load_celegans


def output() -> str:
    stream = io.StringIO()
    with contextlib.redirect_stdout(stream):
        demo.run()
    return stream.getvalue()


def section(text: str, title: str) -> list[list[str]]:
    """Return the rows, as words, of the frame below a title."""
    (body,) = re.findall(rf"^{title}.*\n.*\n((?:.+\n)+)", text, re.MULTILINE)
    return [line.split() for line in body.splitlines()]


@pytest.fixture
def store(monkeypatch, database_url):
    monkeypatch.setenv("NGDATA_DATABASE_URL", database_url)
    with ngdata.connect() as client:
        yield client


def test_it_shows_the_contents_of_the_store(store):
    text = output()
    neurons = load_celegans(store)
    edges = store.graph.connections(neurons.token_id, neurons.token_id)
    counted = edges.connection_type.value_counts()
    for kind, count, _ in section(text, "The nervous system"):
        assert int(count) == counted.pop(kind)
    assert counted.empty

    busiest = (edges.source_id.value_counts() + edges.target_id.value_counts()).idxmax()
    start = neurons[neurons.token_id == busiest].iloc[0]
    nearest = section(text, "tokens.find_nearest")
    assert len(nearest) == 5
    assert nearest[0][1] == start.neuron
    region = section(text, "tokens.find_in_region")
    assert {row[1] for row in region} < set(neurons.neuron)
    assert start.neuron in {row[1] for row in region}
    weights = [float(row[3]) for row in section(text, "graph.get_neighbors")]
    assert weights == sorted(weights, reverse=True)
    assert len(section(text, "experience.get_events")) == len(store.experience.get_events()) > 3


def test_a_second_run_shows_the_same_and_adds_nothing(store):
    first = output()
    events = store.experience.get_events()
    assert output() == first
    assert store.experience.get_events().equals(events)


def test_its_output_follows_the_store(store):
    before = output()
    ids = load_celegans(store).token_id
    store.graph.create_connection(ids[0], ids[1], "chemical", 1000.0)
    after = output()
    assert before != after
    assert "21589" in after
    assert "20589" in before


def test_it_fits_a_screen(store):
    assert max(len(line) for line in output().splitlines()[1:]) <= 100


def test_concurrent_demos(store):
    errors = []

    def run() -> None:
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                demo.run()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert store.experience.get_events().event_id.is_unique
