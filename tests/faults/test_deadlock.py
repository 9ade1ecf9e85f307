"""Two writers that wait for each other: one gets an error that says to try again, without leaks."""

import asyncio

import asyncpg
import pytest

import ngdata
from ngdata.errors import NGDataError

LOW, HIGH = (f"00000000-0000-4000-8000-00000000000{n}" for n in (1, 2))


def test_a_deadlock_error_says_to_try_again(database_url, observed, wait_until):
    async def go():
        async with await ngdata.connect_async(database_url) as ang:
            for token_id in (LOW, HIGH):
                await ang.tokens.create({0: (0, 0, 0)}, token_id=token_id)
            other = await asyncpg.connect(database_url)
            # The first of the two that checks for a deadlock becomes its victim.
            await other.execute("SET deadlock_timeout = '1min'")
            hold = "UPDATE tokens.tokens SET weight = 7 WHERE id = $1"
            transaction = other.transaction()
            await transaction.start()
            await other.execute(hold, HIGH)
            # Within one statement, the lower id is locked first.
            writing = asyncio.create_task(ang.tokens.update([HIGH, LOW], weight=5))
            blocked = "wait_event_type = 'Lock'"
            await asyncio.to_thread(wait_until, lambda: observed.count(blocked) == 1)
            waiting = asyncio.create_task(other.execute(hold, LOW))
            with pytest.raises(
                NGDataError, match=r"^deadlock detected \([^)]*40P01\).*try again$"
            ) as caught:
                await writing
            assert caught.value.sqlstate == "40P01"
            await waiting
            await transaction.commit()
            await other.close()
            assert await ang.tokens.update([HIGH, LOW], weight=5) == 2
            assert (await ang.pool_status())["write"]["in_use"] == 0

    asyncio.run(go())
