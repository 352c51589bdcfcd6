import asyncio
import functools
import json
import socket
import threading
import time
from contextlib import ExitStack, closing

import pytest
import uvicorn
from starlette.responses import JSONResponse

from lesion_exp.verbs.serve import server as module
from lesion_exp.verbs.serve.server import ImpatientConnection, _network

PATIENCE = 0.3


async def refuse(scope, receive, send):
    """Answers without reading what comes; the path /slow takes its time, the answer of /large is no small one."""
    await asyncio.sleep(3 * PATIENCE if scope["path"] == "/slow" else 0)
    size = {"/large": 30_000_000, "/middle": 60_000}.get(scope["path"], 0)
    await JSONResponse({"error": "no" + "x" * size}, 413)(scope, receive, send)


@pytest.fixture
def port(monkeypatch):
    monkeypatch.setattr(module, "PATIENCE_SECONDS", PATIENCE)
    monkeypatch.setattr(module, "MOST_CONNECTIONS", 6)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    http = functools.partial(ImpatientConnection, most_of_a_client=3)
    config = uvicorn.Config(refuse, http=http, lifespan="off", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield listener.getsockname()[1]
    server.should_exit = True
    thread.join(10)


def connect(port, address="127.0.0.1"):
    return closing(socket.create_connection(("127.0.0.1", port), timeout=10, source_address=(address, 0)))


def send_until_closed(client, payload, pause):
    """Sends `payload` over and over; raises OSError once nobody listens any more."""
    began = time.monotonic()
    while time.monotonic() - began < 20:
        client.sendall(payload)
        time.sleep(pause)


def test_a_connection_that_says_nothing_is_closed(port):
    with connect(port) as silent:
        assert silent.recv(1) == b""


def test_bytes_that_trickle_do_not_keep_it_open(port):
    with connect(port) as slow, pytest.raises(OSError):  # noqa: PT011 - a reset or a broken pipe
        send_until_closed(slow, b"G", 0.05)


def test_a_request_that_is_being_answered_has_its_time(port):
    with connect(port) as patient:
        patient.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        assert patient.recv(12) == b"HTTP/1.1 413"


def test_a_refused_body_is_read_for_a_while_and_no_longer(port):
    with connect(port) as endless:
        endless.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n" + bytes(100_000))
        answer = b""
        while not answer.endswith(b"}"):
            answer += endless.recv(10_000)
        assert answer.startswith(b"HTTP/1.1 413")
        assert json.loads(answer.partition(b"\r\n\r\n")[2]) == {"error": "no"}
        with pytest.raises(OSError):  # noqa: PT011 - a reset or a broken pipe
            send_until_closed(endless, bytes(1000), 0.02)


def test_one_connection_of_a_client_too_many_is_refused_and_others_are_not(port):
    with connect(port), connect(port), connect(port):
        time.sleep(0.05)
        with connect(port) as fourth:
            answer = fourth.recv(10_000)
        with connect(port, "127.0.0.2") as other:
            other.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert other.recv(12) == b"HTTP/1.1 413"
    assert answer.startswith(b"HTTP/1.1 429")
    assert b"retry-after: 1" in answer


def test_there_are_only_so_many_connections_in_all(port):
    with ExitStack() as opened:
        for number in range(6):
            opened.enter_context(connect(port, f"127.0.0.{2 + number // 3}"))
        time.sleep(0.05)
        with connect(port, "127.0.0.9") as seventh:
            assert seventh.recv(12) == b"HTTP/1.1 429"


@pytest.mark.parametrize("asked", [b"/large", b"/middle"])
def test_clients_that_never_read_are_let_go(port, asked):
    """Of /middle the whole answer waits in buffers: nothing is paused, and a mere close would wait for ever."""
    requests = b"GET " + asked + b" HTTP/1.1\r\nHost: x\r\n\r\n"
    with ExitStack() as opened:
        for _ in range(3):
            client = opened.enter_context(closing(socket.socket()))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", port))
            client.sendall(requests * 100)
        time.sleep(0.1)
        with connect(port) as locked_out:
            assert locked_out.recv(12) == b"HTTP/1.1 429"
        time.sleep(8 * PATIENCE)
        with connect(port) as served:
            served.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert served.recv(12) == b"HTTP/1.1 413"


def test_a_client_that_reads_slowly_gets_the_whole_answer(port):
    with closing(socket.socket()) as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        slow.connect(("127.0.0.1", port))
        slow.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        received, began = 0, time.monotonic()
        while block := slow.recv(1_000_000):
            received += len(block)
            time.sleep(0.002)
    assert received > 30_000_000
    assert time.monotonic() - began > PATIENCE


def test_a_client_of_ipv6_is_a_network():
    assert _network("2001:db8::1") == _network("2001:db8::ffff:2") == "2001:db8::/64"
    assert _network("2001:db8:1::1") != _network("2001:db8::1")
    assert _network("::ffff:10.0.0.1") == _network("10.0.0.1") == "10.0.0.1"


def test_what_follows_a_request_and_is_no_http_ends_the_connection_quietly(port, caplog):
    with connect(port) as broken:
        broken.sendall(b"POST /slow HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
        assert broken.recv(12) == b"HTTP/1.1 400"
        time.sleep(4 * PATIENCE)
    assert "Traceback" not in caplog.text
    assert "Exception" not in caplog.text
