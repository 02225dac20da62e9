"""A server on this machine that answers well, badly and with malice."""

import gzip
import threading
import time
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from aisec_eval.datasets.web import Fetch


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, body, mime="application/octet-stream", status=200, **headers):
        self.send_response(status)
        self.send_header("Content-Type", mime)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.close_connection = True
        with self.server.lock:
            self.server.asked[self.path] = self.server.asked.get(self.path, 0) + 1
            asked = self.server.asked[self.path]
        try:
            if self.path in self.server.files:
                body = self.server.files[self.path]
                self.answer(body, "image/png" if self.path.endswith(".png") else "text/plain")
            elif self.path.startswith("/to?"):
                self.answer(b"", status=302, Location=self.path[4:])
            elif self.path == "/loop":
                self.answer(b"", status=301, Location="/loop")
            elif self.path == "/nowhere":
                self.answer(b"", status=302)
            elif self.path == "/flaky":
                self.answer(b"at last", status=200 if asked > 2 else 503)
            elif self.path == "/endless":
                self.send_response(200)
                self.end_headers()
                while True:
                    self.wfile.write(b"x" * 65536)
            elif self.path == "/drip":
                self.send_response(200)
                self.end_headers()
                while True:
                    self.wfile.write(b"x")
                    time.sleep(0.05)
            elif self.path == "/dripped-headers":
                while True:
                    self.wfile.write(b"H")
                    time.sleep(0.05)
            elif self.path == "/bomb":
                self.answer(gzip.compress(bytes(50 << 20)), Content_Encoding="gzip")
            elif self.path == "/gzip":
                self.answer(gzip.compress(b"plain"), Content_Encoding="gzip")
            elif self.path == "/deflate":
                self.answer(zlib.compress(b"plain"), Content_Encoding="deflate")
            elif self.path == "/broken-gzip":
                self.answer(b"no gzip at all", Content_Encoding="gzip")
            elif self.path == "/cut-gzip":
                self.answer(gzip.compress(bytes(range(200)))[:-20], Content_Encoding="gzip")
            elif self.path == "/brotli":
                self.answer(b"?", Content_Encoding="br")
            elif self.path == "/cut":
                self.send_response(200)
                self.send_header("Content-Length", "100")
                self.end_headers()
                self.wfile.write(b"short")
            elif self.path == "/garbage":
                self.wfile.write(b"\0\1\2 not HTTP\r\n\r\n")
            else:
                self.answer(b"none", status=404)
        except OSError:
            pass  # The client has left, as it should.


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass


@pytest.fixture
def server():
    """The server; `files` maps paths to bodies, `asked` counts, `url` is where it is."""
    server = Server(("127.0.0.1", 0), Handler)
    server.files, server.asked, server.lock = {}, {}, threading.Lock()
    server.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def options():
    """Downloads that do not wait, from this machine."""
    return Fetch(private=True, pause=0.0, timeout=5.0, max_bytes=1 << 20, workers=4)
