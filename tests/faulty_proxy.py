"""A server in front of another, as far away as an object store, that lets a given share of requests fail.

It runs in a process of its own: ``python -m tests.faulty_proxy PORT SECONDS EVERY``, where PORT is that of
the server behind, SECONDS go by before a request is passed on, and of EVERY requests for objects (0: of none)
one fails, each in the next way of `FAULTS`. It says its port, answers ``GET /-/count`` with how many requests
there were and how many of them failed, and ends with its input.
"""

from __future__ import annotations

import http.client
import json
import socket
import struct
import sys
import threading
import time
import urllib.request
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler
from typing import Any, ClassVar

from benchmarks.s3_server import Server, server_process

FAULTS = "500", "503", "reset", "hang", "cut"
"""Two answers of a server in trouble, a connection that is reset, a request that is never answered, and an
answer that ends half-way."""

PER_CONNECTION = "connection", "keep-alive", "transfer-encoding", "content-length", "server", "date"
"""Headers that are not passed on."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    behind: int
    seconds: float
    every: int
    counts: ClassVar = {"requests": 0, "failed": 0}
    lock = threading.Lock()
    ended = threading.Event()

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except ConnectionError:  # who asks has given up
            self.close_connection = True

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/-/count":
            return self.send(200, [], json.dumps(self.counts).encode())
        time.sleep(self.seconds)
        fault = self.fault()
        if fault == "hang":
            self.ended.wait()
        if fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            raise ConnectionResetError
        if fault in ("500", "503"):
            return self.send(int(fault), [], b"")
        there = http.client.HTTPConnection("127.0.0.1", self.behind)
        there.request(self.command, self.path, body, dict(self.headers))
        answer = there.getresponse()
        content = answer.read()
        there.close()
        headers = [(k, v) for k, v in answer.getheaders() if k.lower() not in PER_CONNECTION]
        if self.command == "HEAD":
            headers.append(("Content-Length", answer.headers.get("Content-Length", "0")))
        self.send(answer.status, headers, content, cut=fault == "cut")

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer

    def fault(self) -> str | None:
        """How this request is to fail: one that reads an object of some rows, if any."""
        if self.command != "GET" or "/c/" not in self.path:
            return None
        with self.lock:
            self.counts["requests"] += 1
            if not self.every or self.counts["requests"] % self.every:
                return None
            self.counts["failed"] += 1
            return FAULTS[self.counts["failed"] % len(FAULTS)]

    def send(self, code: int, headers: list[tuple[str, str]], content: bytes, cut: bool = False) -> None:
        self.send_response(code)
        for key, value in headers:
            self.send_header(key, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if cut else content)
        if cut:
            self.close_connection = True


def proxy(behind: int, seconds: float = 0.0, every: int = 0) -> AbstractContextManager[int]:
    """The port of a proxy in a process of its own, which ends with the context."""
    return server_process("tests.faulty_proxy", behind, seconds, every)


def counts(port: int) -> dict[str, Any]:
    """How many requests for objects of rows there were at a proxy, and how many it let fail."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/count") as answer:
        return json.load(answer)


if __name__ == "__main__":
    Handler.behind, Handler.seconds, Handler.every = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    with Server(("127.0.0.1", 0), Handler) as server:
        print(server.server_port, flush=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        sys.stdin.read()
        Handler.ended.set()
        server.shutdown()
