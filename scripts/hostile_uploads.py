"""Sends hostile uploads to a running server and reports how it reacts.

    lesion-exp serve run=latest port=8000
    python scripts/hostile_uploads.py --port 8000 --count 10000

The server passes if it answers every upload with a status below 500, still runs, and its memory is bounded: the result
has its largest memory during the uploads and its memory after them (from its own /metrics). Exits with 1 if not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
from hostile_kinds import KINDS

MEBIBYTE = 2**20
MOST_GROWTH_MB = 1200
ANSWER_SECONDS = 90


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8000, help="of the server on this machine (8000)")
    parser.add_argument("--count", type=int, default=10_000, help="requests (10000)")
    parser.add_argument("--at-once", type=int, default=16, help="connections (16)")
    parser.add_argument("--burst", type=int, default=200, help="requests all at once, at the end (200)")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    result = asyncio.run(attack(asked))
    print(json.dumps(result, indent=2))
    return 0 if result["passed"] else 1


async def attack(asked: argparse.Namespace) -> dict[str, Any]:
    before, peak = memory(asked.port), [0.0]
    began, outcomes = time.monotonic(), Counter()
    watcher = asyncio.create_task(watch(asked.port, peak))
    requests = drawn(asked.count, asked.seed)

    async def client() -> None:
        for kind, raw in requests:
            outcomes[kind, await send(asked.port, raw)] += 1

    await asyncio.gather(*(client() for _ in range(asked.at_once)))
    seconds = time.monotonic() - began
    burst = Counter(await asyncio.gather(*(send(asked.port, raw) for _, raw in drawn(asked.burst, asked.seed + 1))))
    slow = await slow_clients(asked.port)
    watcher.cancel()
    after = memory(asked.port)
    statuses = Counter()
    for (_, status), count in outcomes.items():
        statuses[status] += count
    every = {*statuses, *burst}
    return {
        "requests": asked.count,
        "seconds": round(seconds, 1),
        "statuses": dict(sorted(statuses.items())),
        "burst": {"requests": asked.burst, "statuses": dict(sorted(burst.items()))},
        "slow_clients": slow,
        "by_kind": {kind: {s: n for (k, s), n in sorted(outcomes.items()) if k == kind} for kind in KINDS},
        "memory_mb": {"before": before, "peak": round(peak[0]), "after": after},
        "passed": not any(status.startswith("5") for status in every)
        and peak[0] - before < MOST_GROWTH_MB
        and health(asked.port) == "ok"
        and set(by_kind(outcomes, "whole picture")) <= {"200", "429"},
    }


def by_kind(outcomes: Counter[tuple[str, str]], kind: str) -> list[str]:
    return [status for found, status in outcomes if found == kind]


def drawn(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Kinds and requests; the same for the same seed."""
    names = list(KINDS)
    weights = np.array([weight for _, weight in KINDS.values()])
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        kind = names[int(rng.choice(len(names), p=weights / weights.sum()))]
        yield kind, KINDS[kind][0](rng)


async def send(port: int, raw: bytes) -> str:
    """The status of the answer; `closed` where the connection ended without one."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return "refused connection"
    try:
        writer.write(raw)
        writing = asyncio.create_task(writer.drain())
        line = await asyncio.wait_for(reader.readline(), ANSWER_SECONDS)
        while line.startswith(b"HTTP/1.1 100"):
            await reader.readline()
            line = await asyncio.wait_for(reader.readline(), ANSWER_SECONDS)
        writing.cancel()
        return line.split()[1].decode() if line else "closed"
    except TimeoutError:
        return "no answer"
    except OSError:
        return "closed"
    finally:
        writer.transport.abort()


async def slow_clients(port: int, count: int = 50) -> dict[str, Any]:
    """Connections that send a byte now and then: how long the server bears the last of them, and answers others."""
    began = time.monotonic()
    pairs = [await asyncio.open_connection("127.0.0.1", port) for _ in range(count)]

    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reading = asyncio.ensure_future(reader.read())
        while not reading.done() and time.monotonic() - began < 120:
            writer.write(b"G")
            await asyncio.wait([reading], timeout=1.0)
        reading.exception() if reading.done() else reading.cancel()
        writer.transport.abort()

    others = asyncio.create_task(asyncio.to_thread(health, port))
    await asyncio.gather(*(trickle(*pair) for pair in pairs))
    return {"connections": count, "all_closed_after_seconds": round(time.monotonic() - began), "health": await others}


async def watch(port: int, peak: list[float]) -> None:
    while True:
        peak[0] = max(peak[0], await asyncio.to_thread(memory, port))
        await asyncio.sleep(0.5)


def memory(port: int) -> float:
    """Memory of the server, MiB; 0 if it is not known."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:
        return 0.0
    found = next(line for line in lines if line.startswith("process_resident_memory_bytes "))
    return round(float(found.split()[1]) / MEBIBYTE)


def health(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=60) as answer:
        return str(json.load(answer)["status"])


if __name__ == "__main__":
    sys.exit(main())
