"""Plans of the joins: the GiST index finds the region, and nothing is read once per row."""

import adbc_driver_postgresql.dbapi as adbc
import numpy as np
import pandas as pd
import pytest

COUNT = 20_000
START = pd.Timestamp("2026-01-01", tz="UTC")
SMALL = (100, 100, 100), (200, 200, 200)
RUN = "00000000-0000-4000-8000-000000000001"


@pytest.fixture(scope="module")
def filled(store, server):
    rng = np.random.default_rng(8)
    cloud = pd.DataFrame(rng.uniform(0, 1000, (COUNT, 3)), columns=list("xyz"))
    cloud["token_id"] = store.tokens.bulk_create(cloud)
    store.experience.bulk_create(
        {
            "event_type": "step",
            "timestamp": pd.date_range(START, periods=COUNT, freq="s"),
            "token_id": rng.permutation(cloud.token_id.to_numpy()),
            "trajectory_id": np.where(np.arange(COUNT) % 100 == 0, RUN, None),
        }
    )
    with adbc.connect(server.database_url, autocommit=True) as connection:
        for table in ("tokens.spatial_index", "experience.experience_events"):
            connection.execute(f"ANALYZE {table}").close()
        # Added after the statistics: the planner estimates that there are none.
        late = pd.date_range(START + pd.Timedelta("30D"), periods=2000, freq="s")
        store.experience.bulk_create(
            {"event_type": "late", "timestamp": late, "token_id": cloud.token_id[:2000]}
        )
    return store, cloud


def loops(plan):
    """Return the largest number of executions of a node of the plan."""
    return max(int(part.split(")")[0].split(" ")[0]) for part in plan.text.split("loops=")[1:])


def test_a_small_region_leads_to_its_events(filled):
    ng, cloud = filled
    for read in (ng.experience.get_events, ng.experience.list_trajectories):
        plan = ng.explain(read, within=SMALL, analyze=True)
        assert plan.uses_spatial_index, plan.text
        assert "Seq Scan on experience_events" not in plan.text
    plan = ng.explain(ng.experience.activity_in_region, *SMALL, analyze=True)
    assert plan.uses_spatial_index, plan.text
    assert "Seq Scan on experience_events" not in plan.text
    inside = cloud[((cloud[[*"xyz"]] >= 100) & (cloud[[*"xyz"]] <= 200)).all(axis=1)]
    result = ng.experience.activity_in_region(*SMALL)
    assert sorted(result.token_id) == sorted(inside.token_id)


@pytest.mark.parametrize("box", [SMALL, ((0, 0, 0), (1000, 1000, 1000))], ids=["small", "all"])
def test_the_region_is_read_once_for_few_events(filled, box):
    """A plan that trusted the estimates would read all of the region for each event, or the
    events for each token: 2,000 times 20,000.
    """
    ng, cloud = filled
    start = START + pd.Timedelta("30D")
    points = cloud[[*"xyz"]].to_numpy()[:2000]
    expected = ((points >= box[0]) & (points <= box[1])).all(axis=1).sum()
    for read, arguments, options in (
        (ng.experience.get_events, (start,), {"within": box}),
        (ng.experience.events_around, (start, 0, "1h"), {"within": box}),
        (ng.experience.activity_in_region, box, {"start": start}),
    ):
        plan = ng.explain(read, *arguments, **options, analyze=True)
        scans = [
            line
            for line in plan.text.splitlines()
            if "on spatial_index_0" in line and "pkey" not in line
        ]
        assert scans
        assert all(line.endswith("loops=1)") for line in scans), plan.text
        assert "ix_experience_events_timestamp" in plan.text
        assert len(read(*arguments, **options)) == expected


def test_a_trajectory_is_found_by_its_index(filled):
    ng, _ = filled
    plan = ng.explain(ng.experience.get_trajectory, RUN, analyze=True)
    assert "ix_experience_events_trajectory_id" in plan.text
    plan = ng.explain(ng.experience.mean_position, RUN, "1h", analyze=True)
    assert "ix_experience_events_trajectory_id" in plan.text
    assert loops(plan) <= COUNT // 100
