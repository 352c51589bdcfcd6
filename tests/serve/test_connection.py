import asyncio
import json
import socket
import threading
import time
from contextlib import closing

import pytest
import uvicorn
from starlette.responses import JSONResponse

from lesion_exp.serve import connection
from lesion_exp.serve.connection import ImpatientConnection

PATIENCE = 0.3


async def refuse(scope, receive, send):
    """Answers without reading what comes; the path /slow takes its time."""
    await asyncio.sleep(3 * PATIENCE if scope["path"] == "/slow" else 0)
    await JSONResponse({"error": "no"}, 413)(scope, receive, send)


@pytest.fixture
def port(monkeypatch):
    monkeypatch.setattr(connection, "PATIENCE_SECONDS", PATIENCE)
    monkeypatch.setattr(connection, "MOST_CONNECTIONS", 3)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(refuse, http=ImpatientConnection, lifespan="off", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield listener.getsockname()[1]
    server.should_exit = True
    thread.join(10)


def connect(port):
    return closing(socket.create_connection(("127.0.0.1", port), timeout=10))


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


def test_one_connection_too_many_is_refused(port):
    with connect(port), connect(port), connect(port):
        time.sleep(0.05)
        with connect(port) as fourth:
            answer = fourth.recv(10_000)
    assert answer.startswith(b"HTTP/1.1 429")
    assert b"retry-after: 1" in answer


def test_what_follows_a_request_and_is_no_http_ends_the_connection_quietly(port, caplog):
    with connect(port) as broken:
        broken.sendall(b"POST /slow HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
        assert broken.recv(12) == b"HTTP/1.1 400"
        time.sleep(4 * PATIENCE)
    assert "Traceback" not in caplog.text
    assert "Exception" not in caplog.text
