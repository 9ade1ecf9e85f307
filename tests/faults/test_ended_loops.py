"""Clients whose event loop is over: however they end, nothing is left on either server."""

from __future__ import annotations

import redis

# The program stays alive between the cases, so only closing can have ended the connections.
PROGRAM = """
import asyncio, gc, threading
import psutil

BOX = (0, 0, 0), (1, 1, 1)

def left():
    gc.collect()
    return sorted(thread.name for thread in threading.enumerate()), psutil.Process().num_fds()

async def opened():
    ang = await ngdata.connect_async(URL, redis_url=REDIS)
    await ang.tokens.create({0: (0, 0, 0)})
    for _ in range(2):
        await ang.tokens.find_in_region(*BOX)
    await asyncio.gather(*(ang.tokens.get([], cache="off") for _ in range(3)))
    await asyncio.gather(*(ang.tokens.delete([]) for _ in range(3)))
    return ang

# What a process keeps once it has used ngdata.
with ngdata.connect(URL) as ng:
    ng.tokens.create({0: (0, 0, 0)})
del ng
# Collecting garbage later is then quick.
gc.collect()
gc.freeze()
before = left()
for name, code in CASES.items():
    names = dict(globals())
    exec(code, names)
    for _ in range(200):
        if (after := left()) == before:
            break
        threading.Event().wait(0.05)
    print(name, before == after or (before, after), flush=True)
    input()
    del names
"""

CASES = {
    "close in another loop": """
ang = asyncio.run(opened())
asyncio.run(ang.close())
del ang
""",
    "nothing, and garbage": """
ang = asyncio.run(opened())
del ang
""",
    "nothing, and kept": """
ang = asyncio.run(opened())
""",
    "close twice, in two more loops": """
ang = asyncio.run(opened())
asyncio.run(ang.close())
asyncio.run(ang.close())
""",
    "close in its loop and in another": """
async def main():
    ang = await opened()
    await ang.close()
    return ang
ang = asyncio.run(main())
asyncio.run(ang.close())
""",
    "two clients, the first opened first": """
a, b = asyncio.run(opened()), asyncio.run(opened())
asyncio.run(a.close())
asyncio.run(b.close())
""",
    "two clients of one loop, the last opened first": """
async def main():
    return await opened(), await opened()
a, b = asyncio.run(main())
async def close():
    await b.close()
    await a.close()
asyncio.run(close())
""",
    "two clients of one loop, both at once": """
async def main():
    return await opened(), await opened()
a, b = asyncio.run(main())
async def close():
    await asyncio.gather(a.close(), b.close(), a.close())
asyncio.run(close())
""",
    "a loop closed by hand": """
loop = asyncio.new_event_loop()
ang = loop.run_until_complete(opened())
loop.close()
asyncio.run(ang.close())
del ang, loop
""",
    "a loop that is stopped, not closed": """
loop = asyncio.new_event_loop()
ang = loop.run_until_complete(opened())
asyncio.run(ang.close())
loop.run_until_complete(asyncio.sleep(0))
loop.close()
""",
    "a loop that runs in another thread": """
loop = asyncio.new_event_loop()
thread = threading.Thread(target=loop.run_forever)
thread.start()
ang = asyncio.run_coroutine_threadsafe(opened(), loop).result()
asyncio.run(ang.close())
loop.call_soon_threadsafe(loop.stop)
thread.join()
loop.close()
""",
    "the loop ends while the client closes": """
async def main():
    ang = await opened()
    asyncio.create_task(ang.close())
    await asyncio.sleep(0)
    return ang
ang = asyncio.run(main())
asyncio.run(ang.close())
""",
    "a cancelled body": """
async def main():
    async with await opened() as ang:
        await asyncio.sleep(60)
async def cancel():
    task = asyncio.create_task(main())
    await asyncio.sleep(0.5)
    task.cancel()
    await asyncio.wait([task])
asyncio.run(cancel())
""",
    "a cancelled close": """
async def main():
    ang = await opened()
    task = asyncio.create_task(ang.close())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    return ang
ang = asyncio.run(main())
""",
    "a cancelled opening": """
async def main():
    for turns in range(0, 40, 3):
        task = asyncio.create_task(opened())
        for _ in range(turns):
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.wait([task])
asyncio.run(main())
""",
    "a read, a write and an iterator under way": """
async def main():
    ang = await opened()
    parts = ang.tokens.iter_region(*BOX, chunk_rows=1)
    await anext(parts)
    for _ in range(3):
        asyncio.create_task(ang.tokens.find_in_region(*BOX, cache="off"))
        asyncio.create_task(ang.tokens.create({0: (5, 5, 5)}))
    await asyncio.sleep(0.005)
    return ang, parts
ang, parts = asyncio.run(main())
""",
    "a sync client that is dropped": """
def main():
    ng = ngdata.connect(URL, redis_url=REDIS)
    ng.tokens.find_in_region(*BOX)
main()
gc.collect()
""",
}


def test_nothing_is_left_on_the_servers_or_in_the_process(observed, server, script):
    store = redis.Redis.from_url(server.redis_url)
    first = int(store.client_id())
    others = observed.count("true")

    def redis_clients() -> int:
        return sum(int(client["id"]) > first for client in store.client_list())

    with script(f"REDIS = {server.redis_url!r}\nCASES = {CASES!r}\n" + PROGRAM) as program:
        for case in CASES:
            assert program.stdout.readline() == f"{case} True\n"
            observed.until(lambda: observed.count("true") == others and not redis_clients())
            program.stdin.write("\n")
            program.stdin.flush()
        out, err = program.communicate(timeout=20)
        assert (program.returncode, out, err) == (0, "", "")
    store.close()
