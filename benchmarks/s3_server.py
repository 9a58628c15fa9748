"""A server of S3 that does nothing but send files, after a while: ``python -m benchmarks.s3_server FOLDER``.

Objects of the one bucket ``bucket`` are the files of a folder, read-only: GetObject, also of ranges,
HeadObject and ListObjectsV2, for whoever asks. It says its port, and ends with its input. The seconds that it
waits before it answers, 0 at first, are set by ``PUT /``.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

MODIFIED = formatdate(0, usegmt=True)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    root: Path
    seconds = 0.0

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def handle(self) -> None:
        with suppress(ConnectionError):  # who asks needs no answer any more
            super().handle()

    def do_PUT(self) -> None:
        Handler.seconds = float(self.rfile.read(int(self.headers["Content-Length"])))
        self.send(200, b"")

    def do_GET(self) -> None:
        time.sleep(self.seconds)
        url = urlsplit(self.path)
        _, _, key = unquote(url.path).strip("/").partition("/")
        if key:
            self.send_file(self.root / key)
        else:
            self.send(200, self.listing({k: v[0] for k, v in parse_qs(url.query).items()}).encode())

    do_HEAD = do_GET

    def send(self, code: int, content: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def send_file(self, path: Path) -> None:
        if not path.is_file():
            return self.send(404, b"<Error><Code>NoSuchKey</Code><Message>no such key</Message></Error>")
        size = path.stat().st_size
        first, last = 0, size
        asked = self.headers.get("Range")
        if asked:
            low, _, high = asked.removeprefix("bytes=").partition("-")
            first, last = (
                (int(low), min(int(high or size - 1) + 1, size)) if low else (max(size - int(high), 0), size)
            )
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{last - 1}/{size}")
        else:
            self.send_response(200)
        self.send_header("Content-Type", "binary/octet-stream")
        self.send_header("Content-Length", str(last - first))
        self.send_header("ETag", f'"{size}"')
        self.send_header("Last-Modified", MODIFIED)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.flush()
            with path.open("rb") as file:
                self.connection.sendfile(file, first, last - first)

    def listing(self, query: dict[str, str]) -> str:
        prefix, at = query.get("prefix", ""), int(query.get("continuation-token", 0))
        folder, keys, above = self.root / prefix.rpartition("/")[0], [], []
        for place, folders, files in os.walk(folder):
            keys += [Path(place, name).relative_to(self.root).as_posix() for name in files]
            if query.get("delimiter"):
                above = [f"{Path(place, name).relative_to(self.root).as_posix()}/" for name in folders]
                break
        found = sorted(key for key in keys if key.startswith(prefix))
        page, more = found[at : at + 1000], len(found) > at + 1000
        contents = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{(self.root / key).stat().st_size}</Size>"
            "<LastModified>1970-01-01T00:00:00.000Z</LastModified></Contents>"
            for key in page
        )
        contents += "".join(
            f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>"
            for name in above
            if name.startswith(prefix)
        )
        token = f"<NextContinuationToken>{at + 1000}</NextContinuationToken>" if more else ""
        return (
            '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>bucket</Name>'
            f"<Prefix>{escape(prefix)}</Prefix><KeyCount>{len(page)}</KeyCount><MaxKeys>1000</MaxKeys>"
            f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}{contents}</ListBucketResult>"
        )


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def serving(folder: Path) -> AbstractContextManager[int]:
    """The port of a server of a folder, in a process of its own that ends with the context."""
    return server_process("benchmarks.s3_server", folder)


@contextmanager
def server_process(module: str, *arguments: object) -> Iterator[int]:
    """The port of a server that a module is, in a process of its own that ends with the context: it says its
    port, and ends with its input."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    with Popen(command, stdin=PIPE, stdout=PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.communicate("")


def move_away(port: int, seconds: float) -> None:
    """Have the server at a port wait so many seconds before it answers."""
    content = str(seconds).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/", content, method="PUT")
    urllib.request.urlopen(request).close()


def s3fs_options(port: int) -> dict[str, Any]:
    """What s3fs takes to find the server at a port."""
    return {"key": "k", "secret": "s", "client_kwargs": {"endpoint_url": f"http://127.0.0.1:{port}"}}


def obstore_options(port: int) -> dict[str, Any]:
    """What obstore takes to find it."""
    config = {"endpoint": f"http://127.0.0.1:{port}", "region": "us-east-1", "access_key_id": "k"}
    more = {"secret_access_key": "s", "virtual_hosted_style_request": "false"}
    return {"config": config | more, "client_options": {"allow_http": True}}


if __name__ == "__main__":
    Handler.root = Path(sys.argv[1])
    with Server(("127.0.0.1", 0), Handler) as server:
        print(server.server_port, flush=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        sys.stdin.read()
        server.shutdown()
