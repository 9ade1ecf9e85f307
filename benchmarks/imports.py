"""What a process pays before its first answers: imports, first calls, the command line, completion.

Each is processor time, of processes that are started for it, in turns; the medians count.  A first
call includes what it loads, and stands beside the same call again.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from typing import Any, Final

import psutil
from jupyter_client.manager import start_new_kernel

from benchmarks.store import server

__all__ = ["completion", "main", "program", "table"]

_BOX: Final = "(0, 0, 0), (1, 1, 1)"

# In this order, in one process.
_STEPS: Final = {
    "import pandas": "import pandas",
    "import ngdata, and its clients": "import ngdata; ngdata.connect",
    "connect": "ng = ngdata.connect(URL)",
    "the first read": f"ng.tokens.find_in_region({_BOX})",
    "the second read": f"ng.tokens.find_in_region({_BOX}, cache='off')",
    "the first create": "ng.tokens.create({0: (1, 2, 3)})",
    "the second create": "ng.tokens.create({0: (1, 2, 3)})",
    "the first bulk_create": "ng.tokens.bulk_create(dict(x=[1.0], y=[2.0], z=[3.0]))",
    "the second bulk_create": "ng.tokens.bulk_create(dict(x=[1.0], y=[2.0], z=[3.0]))",
    "connect, with Redis": "ngdata.connect(URL, redis_url=REDIS_URL).close()",
    "the same again": "ngdata.connect(URL, redis_url=REDIS_URL).close()",
    "import ngdata.repositories": "import ngdata.repositories",
    "migrate, with nothing to do": "from ngdata._store.migrate import upgrade; upgrade(URL)",
}

_PROGRAM: Final = """
import json, time
namespace = {"URL": URL, "REDIS_URL": REDIS_URL}
times = {}
for name, step in STEPS.items():
    before = time.process_time()
    exec(step, namespace)
    times[name] = (time.process_time() - before) * 1000
namespace["ng"].close()
print(json.dumps(times))
"""

_COMMANDS: Final = {"`ngdata --help`": "--help", "`ngdata status`": "status"}

# What is completed in a new kernel that has connected, in this order.
_COMPLETIONS: Final = ("ng.", "ng.tokens.", "ng.graph.")


def program(url: str, redis_url: str) -> dict[str, float]:
    """Run the steps in a new process; milliseconds of each."""
    names = f"URL, REDIS_URL, STEPS = {url!r}, {redis_url!r}, {_STEPS!r}\n"
    run = subprocess.run(
        [sys.executable, "-c", names + _PROGRAM], check=True, capture_output=True, text=True
    )
    times: dict[str, float] = json.loads(run.stdout)
    return times


def command(*arguments: str) -> float:
    """Run the command line in a new process; milliseconds of the whole process."""
    before = _children()
    code = "from ngdata.admin.cli import app; app()"
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True)
    return _children() - before


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (used.ru_utime + used.ru_stime) * 1000


def completion(
    url: str, codes: tuple[str, ...] = _COMPLETIONS
) -> dict[str, tuple[float, set[str]]]:
    """Complete code in a new kernel, with a client `ng`: milliseconds of the kernel, and the names."""
    manager, client = start_new_kernel(kernel_name="python3")

    def reply(message_id: str) -> Any:
        while True:
            message = client.get_shell_msg(timeout=60)
            if message["parent_header"].get("msg_id") == message_id:
                return message["content"]

    try:
        reply(client.execute(f"import ngdata\nng = ngdata.connect({url!r})"))
        kernel = psutil.Process(manager.provisioner.process.pid)
        completions = {}
        for code in codes:
            before = sum(kernel.cpu_times()[:2])
            matches = reply(client.complete(code, len(code)))["matches"]
            milliseconds = (sum(kernel.cpu_times()[:2]) - before) * 1000
            completions[code] = milliseconds, {match.rpartition(".")[2] for match in matches}
        return completions
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        # Otherwise, its sockets stay open.
        manager.cleanup_resources()
        manager.context.destroy()


def measured(url: str, redis_url: str, turns: int) -> dict[str, float]:
    """Return the median milliseconds of each part."""
    times: dict[str, list[float]] = defaultdict(list)
    for _ in range(turns):
        for name, milliseconds in program(url, redis_url).items():
            times[name].append(milliseconds)
        for name, argument in _COMMANDS.items():
            times[name].append(command(argument))
        for code, (milliseconds, _names) in completion(url).items():
            times[f"Tab after `{code}` in a kernel"].append(milliseconds)
    return {name: statistics.median(values) for name, values in times.items()}


def table(results: dict[str, float]) -> str:
    """Return the results as Markdown."""
    lines = ["| part | ms |", "|---|---:|"]
    lines += [f"| {name} | {milliseconds:,.0f} |" for name, milliseconds in results.items()]
    return "\n".join(lines)


def main(turns: int = 7) -> str:
    """Measure on servers of its own, print the table and return it."""
    with tempfile.TemporaryDirectory(prefix="ngdata-bench-") as home, server(home) as addresses:
        results = table(measured(addresses.database_url, addresses.redis_url, turns))
    print(results)
    return results


if __name__ == "__main__":
    main()
