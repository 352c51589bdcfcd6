"""Measures how fast the server answers parallel clients, with and without micro-batching.

    python scripts/benchmark_serve.py --run latest --clients 32 --seconds 20

Starts `lesion-exp serve` twice, on the store of the current project: with `max_batch=16` and with `max_batch=1`. Each
client sends one generated lesion (JPEG, 600 x 450 pixels) after the other over a connection of its own. Clients and
server share the machine; a server on a machine of its own answers more requests.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from lesion_exp.dataset.lesion_painter import Skin, paint_lesion, photograph
from lesion_exp.dataset.lesion_traits import draw_traits

BATCHES = (16, 1)
WARM_UP_SECONDS = 3.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", default="latest", help="as in lesion-exp serve run= (latest)")
    parser.add_argument("--clients", type=int, default=32, help="in parallel (32)")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement (20)")
    parser.add_argument("--gradcam", action="store_true", help="ask for the heat map, too")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    asked = parser.parse_args()
    images = [encoded(seed) for seed in range(16)]
    results = []
    for max_batch in BATCHES:
        with server(asked.run, max_batch) as port:
            address = "/predict?gradcam=true" if asked.gradcam else "/predict"
            requests = [request(address, image) for image in images]
            asyncio.run(clients(port, requests, asked.clients, WARM_UP_SECONDS))
            before = batches(port)
            found = asyncio.run(clients(port, requests, asked.clients, asked.seconds))
            after = batches(port)
        results.append({"max_batch": max_batch, **found, "mean_batch": mean_size(before, after)})
    result = {"clients": asked.clients, "gradcam": asked.gradcam, "results": results}
    show(result)
    if asked.json:
        print(json.dumps(result))
    return 0


def encoded(seed: int, height: int = 450, width: int = 600) -> bytes:
    rng = np.random.default_rng(seed)
    skin = Skin(2, 0, 2)
    lesion = paint_lesion(draw_traits("nv", rng), skin, rng, height, width)
    image, _ = photograph(lesion, skin, rng, height, width)
    return bytes(cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes())


def request(address: str, image: bytes) -> bytes:
    body = b'--y\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n' + image + b"\r\n--y--\r\n"
    head = f"POST {address} HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=y\r\n"
    return head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body


@contextmanager
def server(run: str, max_batch: int) -> Iterator[int]:
    command = [sys.executable, "-m", "lesion_exp", "serve", f"run={run}", "port=0", f"max_batch={max_batch}"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        page = next((line for line in process.stderr if line.startswith("page: ")), "")
        found = re.search(r":(\d+)/", page)
        if found is None:
            raise SystemExit("expected a server, but it did not start; lesion-exp serve says why")
        Thread(target=process.stderr.read, daemon=True).start()  # a full pipe would stop the server
        yield int(found[1])
    finally:
        process.terminate()
        process.wait()


async def clients(port: int, requests: list[bytes], count: int, seconds: float) -> dict[str, Any]:
    """Latencies and throughput of `count` clients, each with one request at a time."""
    end = time.monotonic() + seconds
    latencies: list[float] = []
    statuses: dict[str, int] = {}

    async def client(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        turn = number
        while time.monotonic() < end:
            began = time.monotonic()
            writer.write(requests[turn % len(requests)])
            status, size = "", 0
            while (line := await reader.readline()) not in {b"\r\n", b""}:
                status = status or line.split()[1].decode()
                if line.lower().startswith(b"content-length:"):
                    size = int(line.split(b":")[1])
            await reader.readexactly(size)
            latencies.append(time.monotonic() - began)
            statuses[status] = statuses.get(status, 0) + 1
            turn += count
        writer.close()

    began = time.monotonic()
    await asyncio.gather(*(client(number) for number in range(count)))
    took = time.monotonic() - began
    p50, p95, p99 = (float(1000 * np.percentile(latencies, share)) for share in (50, 95, 99))
    return {
        "images_per_second": len(latencies) / took,
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
        "statuses": statuses,
    }


def batches(port: int) -> tuple[float, float]:
    """The number of batches and of images that have passed through the network."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        values = dict(line.rsplit(" ", 1) for line in answer.read().decode().splitlines() if not line.startswith("#"))
    return float(values["lesion_exp_batch_size_count"]), float(values["lesion_exp_batch_size_sum"])


def mean_size(before: tuple[float, float], after: tuple[float, float]) -> float:
    return (after[1] - before[1]) / max(after[0] - before[0], 1)


def show(result: dict[str, Any]) -> None:
    table = Table(title=f"{result['clients']} clients at once, 600 x 450 JPEG", title_justify="left")
    for column in ("images at once, at most", "on average", "images a second", "p50 ms", "p95 ms", "p99 ms"):
        table.add_column(column, justify="right")
    for row in result["results"]:
        values = (row[name] for name in ("mean_batch", "images_per_second", "p50_ms", "p95_ms", "p99_ms"))
        table.add_row(str(row["max_batch"]), *(f"{value:.1f}" for value in values))
    Console(file=sys.stderr).print(table)


if __name__ == "__main__":
    sys.exit(main())
