"""How a black-box endpoint may be asked."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aisec_eval.errors import InputError

if TYPE_CHECKING:
    import os


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """How a black-box endpoint may be asked; `load_model(url, endpoint=Endpoint(...))`.

    Args:
        max_batch: most samples in one request.
        requests_per_second: highest rate of requests, retries included; None is no limit.
        max_queries: most samples sent in all, retries and load checks included; None is no limit.
        timeout: seconds one request may take in all, from connecting to the last byte.
        retries: how often a request is repeated after 408, 429, 5xx, a timeout or a broken
            connection.
        backoff: seconds before the first repetition, doubled for each further one up to 60; a
            `Retry-After` that asks for more is obeyed up to 60.
        max_response: most bytes of one response body.
        num_classes: number of classes; needed where only labels come back.
        api_key_env: name of the environment variable that holds the API key. The key is sent to
            the endpoint's own origin only, and never logged or shown.
        api_key_header: header that carries it; `Authorization` gets `Bearer <key>`, any other
            the key itself.
        log: file that gets one JSON line a request: time, n, status, latency and, where it
            failed, error.

    Raises:
        InputError: a number out of range, or a name that is none.
    """

    max_batch: int = 64
    requests_per_second: float | None = None
    max_queries: int | None = None
    timeout: float = 30.0
    retries: int = 5
    backoff: float = 1.0
    max_response: int = 16 << 20
    num_classes: int | None = None
    api_key_env: str | None = None
    api_key_header: str = "Authorization"
    log: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        counts = {"max_batch": 1, "max_queries": 1, "retries": 0, "max_response": 1}
        for name, least in (counts | {"num_classes": 2}).items():
            value = getattr(self, name)
            if value is None and name in ("max_queries", "num_classes"):
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InputError(f"{name}={value!r} must be an integer of at least {least}")
        for name in ("requests_per_second", "timeout", "backoff"):
            value = getattr(self, name)
            if value is None and name == "requests_per_second":
                continue
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not math.isfinite(value) or value <= 0:
                raise InputError(f"{name}={value!r} must be a number above 0")
        if not re.fullmatch(r"[A-Za-z0-9-]+", self.api_key_header):
            raise InputError(f"api_key_header={self.api_key_header!r} is not the name of a header")
