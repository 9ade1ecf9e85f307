"""An event log: flights at their airports, local days, a wrong delay corrected, a repeated row deleted.

The columns are those of nycflights13; the rows are invented, around the change to summer time.
"""

from pathlib import Path

import pandas as pd

import ngdata

DATA, ZONE = Path(__file__).parent / "data", "America/New_York"
names = ["faa", "name", "y", "x"]
airports = pd.read_csv(DATA / "airports.csv", names=names, header=0, index_col="faa")
flights = pd.read_csv(DATA / "flights.csv").dropna(subset="dep_time")
days = flights[["year", "month", "day"]]
clock = days.assign(hour=flights.dep_time // 100, minute=flights.dep_time % 100)

with ngdata.connect() as ng:
    # Load.  Airports are tokens at their longitude and latitude; a departure is an event there.
    ids = ng.tokens.bulk_create(airports.assign(z=0, faa=airports.index), extra="metadata")
    log = flights[["carrier", "flight", "tailnum", "dest"]].assign(event_type="departure")
    log["timestamp"] = pd.to_datetime(clock).dt.tz_localize(ZONE)
    log["token_id"], log["reward"] = flights.origin.map(ids), flights.dep_delay
    event_ids = ng.experience.bulk_create(log, extra="metadata")

    # Explore: delays by local day, and by airport of a region.
    print(ng.experience.resample_rewards("1D", token_ids=ids, tz=ZONE))
    city = (-75, 40, 0), (-73, 41, 0)
    busy = ng.experience.activity_in_region(*city, event_type="departure")
    busy = ng.tokens.join(busy, columns=["metadata.faa"]).sort_values("metadata.faa")
    print(busy[["metadata.faa", "event_count", "mean_reward"]].to_string(index=False))

    # Correct: a delay of 5 hours was 30 minutes, and a row is there twice.
    columns = ["event_id", "timestamp", "reward", "metadata"]
    events = ng.experience.get_events(token_ids=ids, columns=columns, flatten=True)
    ng.experience.update_event(events.event_id[events.reward.idxmax()], reward=30)
    is_repeated = events.duplicated(["timestamp", "metadata.flight"])
    ng.experience.delete_events(events.event_id[is_repeated])
    print(ng.experience.resample_rewards("1D", token_ids=ids, tz=ZONE))

    ng.experience.delete_events(event_ids)
    ng.tokens.delete(ids)
