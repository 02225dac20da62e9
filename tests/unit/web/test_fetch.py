"""Downloads end: in time, within their size, and only where they may go."""

import contextlib
import dataclasses
import socket
import ssl
import threading
import time

import pytest

from aisec_eval.datasets.web.fetch import Fetch, UnreachableError, fetch
from aisec_eval.errors import InputError

# A key that protects nothing, and a certificate of it for localhost until 2126.
PEM = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgiC3kn5hAelKqOBwu
dPdua7ojMDUv/FQEA70C/3/YvzWhRANCAARAz4Lyt1SvP6fCE2E/0IJiMIPI88TS
BR6ywTHl/RfJ+eaQHKKlsKWmeoQNYU8jeWV/roTkNy6fwBjQ/hnZTDaD
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBlDCCATugAwIBAgIUOQ20j8qOcqi6sKCKZUbOc0gIafEwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMzEzMzk1N1oYDzIxMjYxMDMw
MTMzOTU3WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAARAz4Lyt1SvP6fCE2E/0IJiMIPI88TSBR6ywTHl/RfJ+eaQHKKlsKWm
eoQNYU8jeWV/roTkNy6fwBjQ/hnZTDaDo2kwZzAdBgNVHQ4EFgQUQyk7/jQIv6rF
V2GByU17JjJkn60wHwYDVR0jBBgwFoAUQyk7/jQIv6rFV2GByU17JjJkn60wDwYD
VR0TAQH/BAUwAwEB/zAUBgNVHREEDTALgglsb2NhbGhvc3QwCgYIKoZIzj0EAwID
RwAwRAIgCWEsxhXrnPF25GQ8/8zXz+55faX+P0M+FDrT7hZ8YXwCIB46l0IJjql+
mUqtfEmbKOFM9da2hL+vEKcE6XILzrqU
-----END CERTIFICATE-----
"""


def reason(url, options):
    with pytest.raises(UnreachableError) as error:
        fetch(url, options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_bodies(server, options):
    server.files["/a b/ü.txt?q=ä"] = b"unquoted"
    server.files["/x.txt"] = b"hello"
    server.files["/%C3%BC.txt?q=%C3%A4%20"] = b"quoted"
    assert fetch(f"{server.url}/x.txt", options).data == b"hello"
    assert fetch(f"{server.url}/x.txt", options).mime == "text/plain"
    assert fetch(f"{server.url}/ü.txt?q=ä ", options).data == b"quoted"
    assert fetch(f"{server.url}/to?/x.txt", options).data == b"hello"
    assert fetch(f"{server.url}/to?{server.url}/to?/x.txt", options).data == b"hello"
    assert fetch(f"{server.url}/flaky", options).data == b"at last"
    assert fetch(f"{server.url}/gzip", options).data == b"plain"
    assert fetch(f"{server.url}/deflate", options).data == b"plain"
    assert server.asked["/flaky"] == 3


@pytest.mark.parametrize(
    ("path", "expected", "times"),
    [
        ("/none", "HTTP 404", 1),
        ("/loop", "redirects", 6),
        ("/nowhere", "without a location", 1),
        ("/endless", "larger than", 1),
        ("/bomb", "larger than", 1),
        ("/brotli", "content encoding 'br'", 1),
        ("/broken-gzip", "damaged", 1),
        ("/cut-gzip", "ended early", 3),
        ("/cut", "ended early", 3),
        ("/garbage", "connection failed", 3),
        ("/to?file:///etc/passwd", "not a URL", 1),
        ("/to?ftp://127.0.0.1/", "not a URL", 1),
    ],
)
def test_bad_answers(server, options, path, expected, times):
    assert expected in reason(server.url + path, options)
    assert server.asked[path] == times


@pytest.mark.parametrize("path", ["/drip", "/dripped-headers"])
def test_slow_servers(server, options, path):
    patient = dataclasses.replace(options, timeout=0.3, attempts=2)
    start = time.monotonic()
    assert "took longer than 0.3 s" in reason(server.url + path, patient)
    assert time.monotonic() - start < 3
    assert server.asked[path] == 2


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:9/", "http://localhost:9/", "http://[::1]:9/", "http://10.1.2.3/",
     "http://169.254.169.254/latest/meta-data", "http://192.168.0.1/", "http://[::ffff:127.0.0.1]/",
     "http://0.0.0.0/", "http://224.0.0.1/"],
)  # fmt: skip
def test_addresses_that_are_not_public(url):
    assert "no public address" in reason(url, Fetch(attempts=1))


@pytest.mark.parametrize(
    "url", ["", "x", "file:///etc/passwd", "http://", "http://[", "http://a:b/", "gopher://a/"]
)
def test_what_is_no_url(options, url):
    assert "URL" in reason(url, options)


@pytest.fixture
def secure(tmp_path, server):
    """The server behind TLS, with a certificate for localhost that nobody signed."""
    path = tmp_path / "pem"
    path.write_text(PEM)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    server.files["/x"] = b"secret"
    return path, f"https://localhost:{server.server_address[1]}/x"


def test_certificates(secure, options, monkeypatch):
    path, url = secure
    assert "certificate: self-signed" in reason(url, options)
    trusting = ssl.create_default_context(cafile=path)
    monkeypatch.setattr("aisec_eval.datasets.web.fetch._context", lambda: trusting)
    assert fetch(url, options).data == b"secret"
    assert "certificate: " in reason(url.replace("localhost", "127.0.0.1"), options)


def test_a_handshake_that_drips(options):
    listening = socket.create_server(("127.0.0.1", 0))

    def drip():
        with listening, contextlib.suppress(OSError), listening.accept()[0] as connected:
            for byte in b"\x16\x03\x03\x40\x00" + bytes(200):
                connected.sendall(bytes([byte]))
                time.sleep(0.05)

    thread = threading.Thread(target=drip, daemon=True)
    thread.start()
    patient = dataclasses.replace(options, timeout=0.3, attempts=1)
    url = f"https://127.0.0.1:{listening.getsockname()[1]}/"
    start = time.monotonic()
    assert "took longer than 0.3 s" in reason(url, patient)
    assert time.monotonic() - start < 3
    thread.join(20)


def test_nobody_there(server, options):
    server.server_close()
    assert "connection failed" in reason(server.url, options)


def test_options():
    for wrong in ({"timeout": 0}, {"attempts": 0}, {"workers": 0}, {"pause": -1}, {"max_bytes": 0}):
        with pytest.raises(InputError):
            Fetch(**wrong)
