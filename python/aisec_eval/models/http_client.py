"""One HTTP endpoint: requests in turn, paced, retried, counted, bounded in time and size, logged.

Plain `http.client`: no proxies, no cookies, nothing but the request that was asked for.
"""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
import threading
import time
import weakref
from contextlib import suppress
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urljoin, urlsplit

from aisec_eval.errors import EndpointError, InputError

if TYPE_CHECKING:
    from http.client import HTTPResponse

    from .endpoint import Endpoint

_TRANSIENT = frozenset((408, 429, 500, 502, 503, 504))
_SAME_REQUEST = frozenset((307, 308))
"""Redirects that keep the method and the body; any other would turn a query into a page view."""
_MAX_REDIRECTS = 3
_LONGEST_WAIT = 60.0
_DOWN = 30.0
"""Seconds for which an endpoint that used up its retries is not asked again."""


class _FailedAttemptError(Exception):
    """One attempt that gave no usable response."""

    def __init__(
        self, reason: str, status: int | None = None, transient: bool = False, wait: float = 0.0
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
        self.transient = transient
        self.wait = wait


class Client:
    """Sends request bodies to one URL and returns the bodies of its responses."""

    def __init__(self, url: str, options: Endpoint) -> None:
        self.options = options
        parts = _split(url)
        self._scheme, self._host = parts.scheme, parts.hostname or ""
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        port = "" if parts.port is None else f":{parts.port}"
        self.address = f"{self._host}{port}{parts.path}"
        """Host and path, for messages: a query string may hold secrets."""
        self._key = _key(options, secure=parts.scheme == "https" or _is_local(self._host))
        self.sent = 0
        """Samples sent so far."""
        self._answered = False
        self._down_until = 0.0
        self._down_reason = ""
        self._next = 0.0
        self._lock = threading.Lock()
        self._open: dict[str, Any] = {}
        """The connection and the query log; closed with the client."""
        weakref.finalize(self, _close_all, self._open)
        if options.log is not None:
            try:
                self._open["log"] = open(options.log, "a", encoding="utf-8")  # noqa: SIM115
            except OSError as error:
                raise InputError(f"query log {options.log}: {error.strerror}") from None

    def post(self, body: bytes, samples: int) -> bytes:
        """Send a JSON body holding `samples` samples; return the body of the response.

        Raises:
            EndpointError: refused, unreachable, too slow, too large, or the budget is spent.
        """
        with self._lock:
            left = self._down_until - time.monotonic()
            if left > 0:
                raise self._error(f"{self._down_reason}; it is asked again in {left:.0f} s")
            delay = self.options.backoff
            for attempt in range(self.options.retries + 1):
                try:
                    answer = self._attempt(body, samples)
                except _FailedAttemptError as failure:
                    if not failure.transient:
                        raise self._error(failure.reason) from None
                    last = failure.reason
                    wait = min(max(delay, failure.wait), _LONGEST_WAIT)
                else:
                    self._answered = True
                    return answer
                if attempt < self.options.retries:
                    time.sleep(wait)
                    delay *= 2
            times = self.options.retries + 1
            self._down_reason = last + (f", {times} times in a row" if times > 1 else "")
            self._down_until = time.monotonic() + _DOWN
            raise self._error(self._down_reason)

    def _attempt(self, body: bytes, samples: int) -> bytes:
        self._spend(samples)
        self._pace()
        began = time.monotonic()
        record: dict[str, Any] = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "n": samples,
            "status": None,
        }
        try:
            record["status"], answer = self._exchange(body)
        except _FailedAttemptError as failure:
            record |= {"status": failure.status, "error": failure.reason}
            raise
        except BaseException as error:
            # Half a request is on the line: nobody may read its answer as that to the next one.
            record["error"] = type(error).__name__
            self._close()
            raise
        finally:
            self._write({**record, "latency": round(time.monotonic() - began, 6)})
        return answer

    def _spend(self, samples: int) -> None:
        limit = self.options.max_queries
        if limit is not None and self.sent + samples > limit:
            raise self._error(
                f"the budget of max_queries={limit} is spent ({self.sent} sent, {samples} asked)"
            )
        self.sent += samples

    def _pace(self) -> None:
        if self.options.requests_per_second is None:
            return
        now = time.monotonic()
        if self._next > now:
            time.sleep(self._next - now)
        self._next = max(now, self._next) + 1 / self.options.requests_per_second

    def _exchange(self, body: bytes) -> tuple[int, bytes]:
        """Post, following redirects inside the origin; return status and body of a success."""
        path = self._path
        for _ in range(_MAX_REDIRECTS + 1):
            response, answer = self._send(path, body)
            status = response.status
            if 200 <= status < 300:
                return status, answer
            if not 300 <= status < 400:
                raise self._refused(response, answer)
            path = self._redirected(path, status, response.getheader("Location", ""))
        raise _FailedAttemptError(f"more than {_MAX_REDIRECTS} redirects", status)

    def _refused(self, response: HTTPResponse, answer: bytes) -> _FailedAttemptError:
        status = response.status
        after = response.getheader("Retry-After", "")
        wait = float(after) if re.fullmatch(r"[0-9]{1,6}", after) else 0.0
        said = self._shown(answer[:2000].decode("utf-8", "replace"))
        reason = f"HTTP {status}" + (f": {said}" if said else "")
        return _FailedAttemptError(reason, status, status in _TRANSIENT, wait)

    def _redirected(self, path: str, status: int, location: str) -> str:
        here = f"{self._scheme}://[{self._host}]" if ":" in self._host else ""
        here = (here or f"{self._scheme}://{self._host}") + f":{self._port}"
        try:
            there = urlsplit(urljoin(here + path, location))
            port = there.port or (443 if there.scheme == "https" else 80)
        except ValueError:
            raise _FailedAttemptError(f"HTTP {status} with a malformed Location", status) from None
        if (there.scheme, there.hostname, port) != (self._scheme, self._host, self._port):
            shown = self._shown(f"{there.scheme}://{there.netloc.rpartition('@')[2]}")
            raise _FailedAttemptError(
                f"HTTP {status} redirects to {shown}, another origin; load that URL itself if you "
                "trust it",
                status,
            )
        if status not in _SAME_REQUEST:
            raise _FailedAttemptError(
                f"HTTP {status} would drop the query; load its target itself", status
            )
        return (there.path or "/") + (f"?{there.query}" if there.query else "")

    def _send(self, path: str, body: bytes) -> tuple[HTTPResponse, bytes]:
        """Post once; once more on a new connection where the server had closed an idle one."""
        reused = "connection" in self._open
        try:
            return self._round_trip(path, body)
        except ConnectionError as error:
            self._close()
            if not reused:
                raise self._broken(error) from None
        except (OSError, HTTPException) as error:
            self._close()
            raise self._broken(error) from None
        try:
            return self._round_trip(path, body)
        except (OSError, HTTPException) as error:
            self._close()
            raise self._broken(error) from None

    def _broken(self, error: Exception) -> _FailedAttemptError:
        if isinstance(error, TimeoutError):
            return _FailedAttemptError(
                f"no answer within {self.options.timeout:g} s", transient=True
            )
        text = self._shown(str(error))
        reason = f"{type(error).__name__}: {text}" if text else type(error).__name__
        if isinstance(error, ssl.SSLCertVerificationError):
            return _FailedAttemptError(reason)
        # Before the first answer it is the URL that is wrong rather than the network.
        wrong = isinstance(error, socket.gaierror | ConnectionRefusedError)
        return _FailedAttemptError(f"no response: {reason}", transient=self._answered or not wrong)

    def _round_trip(self, path: str, body: bytes) -> tuple[HTTPResponse, bytes]:
        deadline = time.monotonic() + self.options.timeout
        connection = self._connected()
        expired = threading.Event()
        sock = connection.sock

        def expire() -> None:
            # A timeout of the socket starts anew with every byte; this one does not.
            expired.set()
            with suppress(OSError):  # closed already: the request is over
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

        timer = threading.Timer(max(deadline - time.monotonic(), 0), expire)
        timer.daemon = True
        timer.start()
        try:
            connection.request("POST", path, body, self._headers())
            response = connection.getresponse()
            answer = response.read(self.options.max_response + 1)
        except (OSError, HTTPException, ValueError):
            if expired.is_set():
                raise TimeoutError from None
            raise
        finally:
            timer.cancel()
        if expired.is_set():
            raise TimeoutError
        if len(answer) > self.options.max_response:
            self._close()
            raise _FailedAttemptError(
                f"the response is larger than max_response={self.options.max_response} bytes",
                response.status,
            )
        if response.length:
            raise HTTPException("the response ended early")
        if response.will_close:
            self._close()
        return response, answer

    def _connected(self) -> HTTPConnection:
        if "connection" not in self._open:
            timeout = self.options.timeout
            if self._scheme == "https":
                context = ssl.create_default_context()
                connection: HTTPConnection = HTTPSConnection(
                    self._host, self._port, timeout=timeout, context=context
                )
            else:
                connection = HTTPConnection(self._host, self._port, timeout=timeout)
            connection.connect()
            self._open["connection"] = connection
        return cast("HTTPConnection", self._open["connection"])

    def _close(self) -> None:
        connection = self._open.pop("connection", None)
        if connection is not None:
            connection.close()

    def _headers(self) -> dict[str, str]:
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": "aisec-eval",
        }
        if self._key is not None:
            name = self.options.api_key_header
            bearer = name.lower() == "authorization"
            headers[name] = f"Bearer {self._key}" if bearer else self._key
        return headers

    def _write(self, record: dict[str, Any]) -> None:
        log = self._open.get("log")
        if log is None:
            return
        try:
            log.write(json.dumps(record) + "\n")
            log.flush()
        except OSError as error:
            raise self._error(f"cannot write the query log: {error.strerror}") from None

    def _error(self, reason: str) -> EndpointError:
        return EndpointError(f"{self.address}: {reason}")

    def _shown(self, text: str) -> str:
        """Return what a stranger said in one short line of printable text, without the key."""
        if self._key:
            text = text.replace(self._key, "***")
        text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
        return text if len(text) <= 120 else text[:119] + "…"


def _close_all(held: dict[str, Any]) -> None:
    for item in held.values():
        item.close()


def _split(url: str) -> Any:
    shown = url.partition("?")[0].rpartition("@")[2][:80]
    if not url.isascii() or not url.isprintable() or " " in url:
        raise InputError(f"the URL {shown!a} holds spaces or characters that must be escaped")
    try:
        parts = urlsplit(url)
        usable = parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable:
        raise InputError(f"{shown!r} is not a URL such as https://host:8000/predict")
    if parts.username is not None:
        raise InputError("the URL holds a user name; keep secrets in a variable: api_key_env=...")
    return parts


def _is_local(host: str) -> bool:
    return host in ("localhost", "::1") or re.fullmatch(r"127(\.[0-9]+){3}", host) is not None


def _key(options: Endpoint, *, secure: bool) -> str | None:
    """Read the API key; no message ever holds it."""
    name = options.api_key_env
    if name is None:
        return None
    key = os.environ.get(name, "")
    if not key:
        raise InputError(f"api_key_env: the environment variable {name!r} is not set")
    if not key.isascii() or not key.isprintable():
        raise InputError(f"api_key_env: {name!r} holds characters no HTTP header may have")
    if not secure:
        raise InputError("an API key is sent over https only; use an https:// URL")
    return key
