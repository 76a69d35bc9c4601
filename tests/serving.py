"""A local web server for the download tests: byte ranges, broken connections, delays."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Server:
    """Serves a folder; its attributes change how it behaves."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = ""
        self.requests: list[tuple[str, str | None]] = []  # path and Range header of each request
        self.break_after: dict[str, int] = {}  # path -> bytes after which the next answer stops, once
        self.ranges = True
        self.delay = 0.0
        self.status: dict[str, int] = {}  # path -> an error to answer with


@contextmanager
def serve(folder: Path) -> Iterator[Server]:
    state = Server(folder)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            path = self.path.split("?")[0]
            state.requests.append((path, asked))
            time.sleep(state.delay)
            file = state.folder / path.lstrip("/")
            if path in state.status or not file.is_file():
                self.send_error(state.status.get(path, 404))
                return
            data = file.read_bytes()
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and state.ranges else 0
            if start and start >= len(data):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            stop = state.break_after.pop(path, len(data))
            self.wfile.write(data[start : max(stop, start)])

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
