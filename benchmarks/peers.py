"""Other libraries that read the same region: one method each, returning what a caller works with."""

from __future__ import annotations

from typing import Any

import adbc_driver_postgresql.dbapi as adbc
import asyncpg
import connectorx
import geopandas
import pandas as pd
import sqlalchemy as sa
from sqlalchemy.orm import Session

from ngdata._query.filters import TokenFilter
from ngdata._query.places import Place
from ngdata._query.regions import region
from ngdata.repositories import TokenModel

__all__ = ["Peers", "plain_sql"]

_ATTRIBUTES = 'level, token_type, weight, flags, "timestamp"'


def _where(box: Place) -> str:
    return region(box, TokenFilter()).sql.partition(" WHERE ")[2]


def plain_sql(box: Place) -> str:
    """Return the query as usually written by hand: ids as text, x, y, z and the attributes."""
    return (
        "SELECT token_id::text AS token_id, ST_X(geom) AS x, ST_Y(geom) AS y, ST_Z(geom) AS z,"
        f" {_ATTRIBUTES} FROM tokens.spatial_index WHERE {_where(box)}"
    )


class Peers:
    """Connections of each library to one database, opened before anything is measured."""

    def __init__(self, url: str, records: asyncpg.Connection[Any]) -> None:
        self._records = records
        self._adbc = adbc.connect(url, autocommit=True)
        self._connectorx = url.replace("@/", "@localhost/")
        # Each connection is used again; a pool's own rollback would be one more trip.
        self._engine = sa.create_engine(
            url.replace("postgresql://", "postgresql+psycopg://"), isolation_level="AUTOCOMMIT"
        )
        self._connection = self._engine.connect()

    def close(self) -> None:
        """Close them."""
        self._adbc.close()
        self._connection.close()
        self._engine.dispose()

    def read_postgis(self, box: Place) -> pd.DataFrame:
        """geopandas.read_postgis."""
        statement = (
            f"SELECT token_id::text AS token_id, geom, {_ATTRIBUTES} FROM tokens.spatial_index"
            f" WHERE {_where(box)}"
        )
        frame: pd.DataFrame = geopandas.read_postgis(sa.text(statement), self._connection)
        return frame

    def read_sql(self, box: Place) -> pd.DataFrame:
        """pandas.read_sql, SQLAlchemy and psycopg."""
        return pd.read_sql(sa.text(plain_sql(box)), self._connection)

    async def asyncpg(self, box: Place) -> pd.DataFrame:
        """asyncpg, records to a frame."""
        rows = await self._records.fetch(plain_sql(box))
        return pd.DataFrame([tuple(row) for row in rows], columns=list(rows[0].keys()))

    def connectorx(self, box: Place) -> pd.DataFrame:
        """connectorx.read_sql."""
        frame: pd.DataFrame = connectorx.read_sql(self._connectorx, plain_sql(box))
        return frame

    def adbc(self, box: Place) -> pd.DataFrame:
        """ADBC as it is, Arrow to pandas."""
        with self._adbc.cursor() as cursor:
            cursor.execute(plain_sql(box))
            frame: pd.DataFrame = cursor.fetch_arrow_table().to_pandas()
            return frame

    def entities(self, box: Place) -> list[TokenModel]:
        """ORM objects filtered on array columns, as in NeuroGraph OS."""
        axes = (TokenModel.coord_x, TokenModel.coord_y, TokenModel.coord_z)
        conditions = [
            sa.and_(axis[box.level + 1] >= low, axis[box.level + 1] <= high)
            for axis, low, high in zip(axes, *(box.corners or ()), strict=True)
        ]
        with Session(self._engine) as session:
            return list(session.scalars(sa.select(TokenModel).where(*conditions)))
