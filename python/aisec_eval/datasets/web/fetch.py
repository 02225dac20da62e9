"""Downloads from servers that nobody vouches for: bounded in time, bytes, redirects and reach."""

from __future__ import annotations

import contextlib
import functools
import http.client
import ipaddress
import socket
import ssl
import threading
import time
import zlib
from dataclasses import dataclass
from urllib.parse import quote, urljoin, urlsplit

from ...errors import InputError

_MIB = 1 << 20
_CHUNK = 1 << 16
_AGAIN = (408, 425, 429, 500, 502, 503, 504)
_MOVED = (301, 302, 303, 307, 308)
_PATH = "%/:=&?~+!$,;'@()*[]"


@dataclass(frozen=True, kw_only=True)
class Fetch:
    """How to download.

    Args:
        timeout: seconds an attempt may take in all, redirects included.
        attempts: how often to try where a server is busy, slow or unreachable; at least 1.
        pause: seconds before the second attempt, doubled each time.
        max_bytes: size of the largest body, as sent and after decoding.
        redirects: how many to follow.
        workers: downloads at the same time; each holds one body.
        private: reach addresses that are not public, too (loopback, private networks, link-local).
            Off, a URL or redirect from the list cannot make this machine ask its own network.
        user_agent: what servers are told.

    Raises:
        InputError: a value is out of range.
    """

    timeout: float = 30.0
    attempts: int = 3
    pause: float = 1.0
    max_bytes: int = 32 * _MIB
    redirects: int = 5
    workers: int = 16
    private: bool = False
    user_agent: str = "aisec-eval"

    def __post_init__(self) -> None:
        if not (self.timeout > 0 and self.pause >= 0):
            raise InputError(
                f"timeout={self.timeout!r} must be positive, pause={self.pause!r} >= 0"
            )
        for name, least in (("attempts", 1), ("max_bytes", 1), ("redirects", 0), ("workers", 1)):
            if getattr(self, name) < least:
                raise InputError(f"{name}={getattr(self, name)!r} must be at least {least}")


@dataclass(frozen=True)
class Body:
    """What a URL gave."""

    data: bytes
    mime: str
    """As the server says; empty where it does not."""


class UnreachableError(Exception):
    """Nothing usable came; `again` where another attempt may help."""

    def __init__(self, reason: str, again: bool = False) -> None:
        super().__init__(" ".join(reason.split())[:200])
        self.again = again


def fetch(url: str, options: Fetch) -> Body:
    """Download one URL.

    Raises:
        UnreachableError: with one line that says why.
    """
    pause = options.pause
    for attempt in range(1, options.attempts + 1):
        try:
            return _attempt(url, options)
        except UnreachableError as error:
            if not error.again or attempt == options.attempts:
                raise
        time.sleep(pause)
        pause *= 2
    raise AssertionError


def _attempt(url: str, options: Fetch) -> Body:
    deadline = time.monotonic() + options.timeout
    for _ in range(options.redirects + 1):
        answer = _request(url, options, deadline)
        if isinstance(answer, Body):
            return answer
        url = urljoin(url, answer)
    raise UnreachableError(f"more than {options.redirects} redirects")


def _request(url: str, options: Fetch, deadline: float) -> Body | str:
    """Return the body, or where it has moved."""
    connection, target = _connect(url, options, deadline)
    # A server that sends a byte now and then keeps every timeout of its socket; this one ends.
    ended = threading.Event()
    timer = threading.Timer(deadline - time.monotonic(), _shut, [connection.sock, ended])
    timer.daemon = True
    timer.start()
    response = None
    try:
        if isinstance(connection.sock, ssl.SSLSocket):
            connection.sock.do_handshake()
        connection.request(
            "GET", target, headers={"User-Agent": options.user_agent, "Accept-Encoding": "identity"}
        )
        response = connection.getresponse()
        if response.status in _MOVED:
            location = response.headers.get("Location")
            if not location:
                raise UnreachableError(f"HTTP {response.status} without a location")
            return location
        if response.status != 200:
            raise UnreachableError(f"HTTP {response.status}", response.status in _AGAIN)
        body = _read(response, options)
        if ended.is_set():  # A body without a length ends where the connection is shut.
            raise TimeoutError
        return body
    except UnreachableError:
        if ended.is_set():
            raise UnreachableError(f"took longer than {options.timeout:g} s", True) from None
        raise
    except ssl.SSLCertVerificationError as error:
        raise UnreachableError(f"certificate: {error.verify_message}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        if ended.is_set() or isinstance(error, TimeoutError):
            raise UnreachableError(f"took longer than {options.timeout:g} s", True) from None
        reason = str(error) or type(error).__name__
        raise UnreachableError(f"connection failed: {reason}", True) from None
    finally:
        timer.cancel()
        # Each of the two may hold the socket.
        if response is not None:
            response.close()
        connection.close()


def _shut(connected: socket.socket, ended: threading.Event) -> None:
    ended.set()
    with contextlib.suppress(OSError):
        connected.shutdown(socket.SHUT_RDWR)


def _connect(url: str, options: Fetch, deadline: float) -> tuple[http.client.HTTPConnection, str]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        name = host.encode("idna").decode() if host else ""
    except (ValueError, UnicodeError):
        raise UnreachableError("not a valid URL") from None
    if parts.scheme not in ("http", "https") or not name:
        raise UnreachableError("not a URL of http or https")
    secure = parts.scheme == "https"
    port = port or (443 if secure else 80)
    address = _resolve(name, port, options.private)
    left = deadline - time.monotonic()
    if left <= 0:
        raise UnreachableError(f"took longer than {options.timeout:g} s", True)
    connection: http.client.HTTPConnection
    if secure:
        connection = http.client.HTTPSConnection(name, port, context=_context())
    else:
        connection = http.client.HTTPConnection(name, port)
    # Nothing but this function decides where to connect.
    connection.auto_open = 0
    try:
        # To the address that was judged: a second look-up might give another one.
        connected = socket.create_connection((address, port), timeout=left)
    except OSError as error:
        if time.monotonic() >= deadline:
            raise UnreachableError(f"took longer than {options.timeout:g} s", True) from None
        raise UnreachableError(f"connection failed: {error.strerror or error}", True) from None
    if secure:
        connected = _context().wrap_socket(
            connected, server_hostname=name, do_handshake_on_connect=False
        )
    connection.sock = connected
    path = quote(parts.path or "/", safe=_PATH)
    return connection, f"{path}?{quote(parts.query, safe=_PATH)}" if parts.query else path


@functools.cache
def _context() -> ssl.SSLContext:
    return ssl.create_default_context()


def _resolve(name: str, port: int, private: bool) -> str:
    try:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise UnreachableError(f"no address: {error}", True) from None
    addresses = [str(address[0]) for *_, address in found]
    if not private:
        for address in addresses:
            numeric = ipaddress.ip_address(address.split("%")[0])
            inside = getattr(numeric, "ipv4_mapped", None) or numeric
            if not inside.is_global or inside.is_multicast:
                raise UnreachableError(f"{address} is no public address")
    return addresses[0]


def _read(response: http.client.HTTPResponse, options: Fetch) -> Body:
    encoding = (response.headers.get("Content-Encoding") or "identity").strip().lower()
    if encoding not in ("identity", "gzip", "deflate"):
        raise UnreachableError(f"content encoding {encoding[:20]!r}")
    # 47: either of gzip and zlib, as the header says.
    decoder = None if encoding == "identity" else zlib.decompressobj(47)
    parts: list[bytes] = []
    sent = size = 0
    while chunk := response.read1(_CHUNK):
        sent += len(chunk)
        if decoder is not None:
            try:
                chunk = decoder.decompress(chunk, options.max_bytes + 1 - size)
            except zlib.error:
                raise UnreachableError(f"damaged content encoding {encoding}") from None
        size += len(chunk)
        if max(size, sent) > options.max_bytes or (decoder and decoder.unconsumed_tail):
            raise UnreachableError(f"larger than {options.max_bytes} bytes")
        parts.append(chunk)
    if decoder is not None and not decoder.eof:
        raise UnreachableError("the body ended early", True)
    if response.length:
        raise UnreachableError("the body ended early", True)
    mime = (response.headers.get_content_type() or "") if "Content-Type" in response.headers else ""
    return Body(b"".join(parts), mime.lower()[:100])
