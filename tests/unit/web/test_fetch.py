"""Downloads end: in time, within their size, and only where they may go."""

import dataclasses
import time

import pytest

from aisec_eval.datasets.web.fetch import Fetch, UnreachableError, fetch
from aisec_eval.errors import InputError


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


def test_nobody_there(server, options):
    server.server_close()
    assert "connection failed" in reason(server.url, options)


def test_options():
    for wrong in ({"timeout": 0}, {"attempts": 0}, {"workers": 0}, {"pause": -1}, {"max_bytes": 0}):
        with pytest.raises(InputError):
            Fetch(**wrong)
