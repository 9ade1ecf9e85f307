"""Why relations have no version: the causes for which ``tokens.current_version`` returns NULL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ngdata._query import literals as sql
from ngdata._query.model import Column, Kind, Query

__all__ = ["causes"]

_CAUSE: Final = Column("cause", Kind.TEXT)

_RENEWS: Final = (
    "t.tgrelid = m.member AND t.tgname = 'renew_version' AND t.tgenabled = 'A' AND t.tgtype = 60"
    " AND t.tgqual IS NULL AND t.tgattr = '' AND t.tgfoid = to_regprocedure('tokens.renew_version()')"
    r" AND t.tgargs = convert_to(m.name, 'UTF8') || '\x00'::bytea"
)


def causes(relations: Sequence[str]) -> Query:
    """Read why these relations have no version for this user: a row per cause, the most general first."""
    statement = f"""
WITH RECURSIVE members AS (
    SELECT r.name, c.oid AS member, c.oid AS root, c.oid::regclass::text AS shown, c.relkind AS kind
    FROM unnest({sql.text_array(relations)}) AS r (name)
    LEFT JOIN pg_class AS c ON c.oid = to_regclass(r.name)
    UNION ALL
    SELECT m.name, c.oid, NULL, c.oid::regclass::text, c.relkind
    FROM members AS m JOIN pg_inherits AS i ON i.inhparent = m.member
    JOIN pg_class AS c ON c.oid = i.inhrelid
)
SELECT cause FROM (
    SELECT 1 AS place, 'this user may not read tokens.versions; ask the owner of the database for SELECT'
        ' on it' AS cause
    WHERE NOT has_table_privilege('tokens.versions', 'SELECT')
    UNION ALL
    SELECT 2, 'this database is a logical subscriber, and the rows that arrive renew no version'
    WHERE EXISTS (
        SELECT FROM pg_subscription
        WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
    )
    UNION ALL
    SELECT 3, 'a policy decides which rows of ' || m.shown || ' this user sees; connect as a user who'
        ' sees all of them'
    FROM members AS m WHERE m.root IS NOT NULL AND row_security_active(m.root)
    UNION ALL
    SELECT 4, m.shown || ' is not a table of PostgreSQL''s own, but a view or a foreign table'
    FROM members AS m WHERE m.kind NOT IN ('r', 'p')
    UNION ALL
    SELECT 5, m.shown || ' inherits from a table that is not one of ngdata''s'
    FROM members AS m JOIN pg_inherits AS i ON i.inhrelid = m.member
    WHERE i.inhparent NOT IN (SELECT member FROM members)
    UNION ALL
    SELECT 6, 'the trigger renew_version of ' || m.shown || ' is missing or does not fire always;'
        ' `ngdata doctor` says how to mend it'
    FROM members AS m
    WHERE m.kind IN ('r', 'p') AND NOT EXISTS (SELECT FROM pg_trigger AS t WHERE {_RENEWS})
) AS causes ORDER BY place, cause"""
    return Query(statement, (_CAUSE,), ())
