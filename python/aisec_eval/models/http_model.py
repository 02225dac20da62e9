"""A black box behind a URL: inputs go out as JSON, scores or labels come back.

The protocol is in docs/http_models.md.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from aisec_eval.errors import CapabilityError, EndpointError, InputError

from . import checks
from .base import Capabilities, LoadReport, Model, inputs_of
from .http_client import Client

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .endpoint import Endpoint

_SOFTMAX = (
    "scores look like probabilities (every row sums to 1): margins are differences of "
    "probabilities, not of logits"
)


class HttpModel(Model):
    """A classifier behind a URL. Built by `load_http`."""

    def __init__(
        self,
        client: Client,
        *,
        name: str,
        input_shape: tuple[int, ...],
        num_classes: int,
        answers: Literal["scores", "labels"],
    ) -> None:
        self.name = name
        self.input_shape = input_shape
        self.num_classes = num_classes
        scores = answers == "scores"
        self.capabilities = Capabilities(scores=scores, max_batch=client.options.max_batch)
        self.report = LoadReport()
        about = [client.address, list(input_shape), num_classes, answers]
        self.digest = hashlib.sha256(json.dumps(about).encode()).hexdigest()
        """Of the address: what answers there is unknown and may change."""
        self._client = client
        self._answers = answers

    @property
    def queries(self) -> int:
        """Samples sent to the endpoint so far, retries and load checks included."""
        return self._client.sent

    def logits(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the endpoint's scores [n, num_classes] for inputs [n, *input_shape].

        Raises:
            CapabilityError: the endpoint answers labels only.
            EndpointError: it refused, failed, answered garbage, or the budget is spent.
            InputError: x does not have the model's shape.
        """
        if self._answers != "scores":
            raise CapabilityError(f"{self.name}: the endpoint answers labels only; use labels()")
        x = inputs_of(self, x)
        rows = np.empty((len(x), self.num_classes), np.float32)
        for start in range(0, len(x), self._client.options.max_batch):
            part = slice(start, start + self._client.options.max_batch)
            answer = ask(self._client, x[part])
            rows[part] = _usable(self._client, answer, self._answers, self.num_classes)
        return rows

    def labels(self, x: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the predicted class [n] for inputs [n, *input_shape].

        Raises:
            EndpointError: it refused, failed, answered garbage, or the budget is spent.
            InputError: x does not have the model's shape.
        """
        if self._answers == "scores":
            return super().labels(x)
        x = inputs_of(self, x)
        found = np.empty(len(x), np.int64)
        for start in range(0, len(x), self._client.options.max_batch):
            part = slice(start, start + self._client.options.max_batch)
            answer = ask(self._client, x[part])
            found[part] = _usable(self._client, answer, self._answers, self.num_classes)
        return found


def load_http(url: str, options: checks.Options, endpoint: Endpoint) -> HttpModel:
    """Ask the endpoint about a few inputs, twice, and say what looks wrong.

    That takes at most 142 queries: random inputs in the range, and the samples given.

    Raises:
        EndpointError: it refused, failed or answered garbage.
        InputError: options that do not fit, or labels only and no `num_classes`.
    """
    if options.input_shape is None:
        raise InputError("an endpoint needs one sample's shape: input_shape=(3, 32, 32)")
    client = Client(url, endpoint)
    probes = checks.probes(options, options.input_shape)
    # The two probes beyond the input range are nothing an endpoint has to accept.
    x = np.delete(probes, (2, 3), axis=0)[: endpoint.max_batch]
    answer = ask(client, x)
    answers: Literal["scores", "labels"] = "labels" if answer.ndim == 1 else "scores"
    classes = endpoint.num_classes
    if classes is None:
        if answers == "labels":
            raise InputError(
                f"{client.address} answers labels only; give their number: "
                "endpoint=Endpoint(num_classes=10)"
            )
        classes = answer.shape[1]
    first = _usable(client, answer, answers, classes)
    model = HttpModel(
        client,
        name=options.name or client.address,
        input_shape=options.input_shape,
        num_classes=classes,
        answers=answers,
    )
    reason = "a black-box endpoint"
    if answers == "scores":
        found = checks.warnings(model.logits, x, first, options, _SOFTMAX)
    else:
        found = checks.label_warnings(model.labels, x, first, classes, options)
    stable = not any("not deterministic" in line for line in found)
    model.capabilities = replace(model.capabilities, deterministic=stable)
    found.append(
        f"not certifiable: {reason}; attacked by queries, and its digest is that of its address"
    )
    model.report = LoadReport(tuple(found), reason)
    return model


def ask(client: Client, x: NDArray[np.float32]) -> NDArray[Any]:
    """Send one batch; return float64 scores [n, classes] or int64 labels [n].

    Raises:
        EndpointError: no response, or one that is not what the protocol says.
        InputError: x holds NaN or infinity, which JSON cannot say.
    """
    if not np.isfinite(x).all():
        raise InputError("x holds NaN or infinity, which JSON cannot say")
    # float32 numbers are written as the float64 they equal, so every digit arrives.
    body = json.dumps({"inputs": x.tolist()}, separators=(",", ":")).encode()
    answer = client.post(body, len(x))
    problem, array = _read(answer, len(x))
    if problem:
        raise EndpointError(f"{client.address}: {problem}; see docs/http_models.md")
    return array


def _read(answer: bytes, n: int) -> tuple[str, NDArray[Any]]:
    """Return what is wrong with a response body, or an empty string, and its numbers."""
    nothing = np.empty(0)
    try:
        parsed = json.loads(answer, parse_constant=_not_finite)
    except (ValueError, RecursionError):
        return "the response is not JSON", nothing
    values = None
    if isinstance(parsed, dict):
        key = next((k for k in ("scores", "labels") if k in parsed), "")
        values = parsed.get(key)
    if not isinstance(values, list):
        return 'the response has neither "scores" nor "labels"', nothing
    try:
        array = np.array(values)
    except ValueError:
        array = nothing
    rank = 2 if key == "scores" else 1
    kinds = "fi" if key == "scores" else "i"
    numbers = not any(type(v) is bool for row in values for v in (row if rank == 2 else [row]))
    if array.ndim != rank or len(array) != n or array.dtype.kind not in kinds or not numbers:
        shape = f"[{n}, classes] numbers" if rank == 2 else f"[{n}] integers"
        return f'"{key}" is not {shape}, one row an input', nothing
    if rank == 2:
        array = array.astype(np.float64)
        if not (np.abs(array) <= np.finfo(np.float32).max).all():
            return '"scores" holds a number that float32 cannot', nothing
    return "", array


def _not_finite(name: str) -> None:
    raise ValueError(name)


def _usable(
    client: Client, answer: NDArray[Any], answers: Literal["scores", "labels"], classes: int
) -> NDArray[Any]:
    """Return an answer as float32 scores or int64 labels, as the model promised them.

    Raises:
        EndpointError: the endpoint answers something else than on load.
    """
    given = "labels" if answer.ndim == 1 else "scores"
    problem = ""
    if given != answers:
        problem = f"it answers {given}, on load it answered {answers}"
    elif answers == "scores" and answer.shape[1] != classes:
        problem = f"it answers {answer.shape[1]} scores an input, expected {classes}"
    elif answers == "labels" and ((answer < 0) | (answer >= classes)).any():
        problem = f"it answers labels outside 0..{classes - 1}"
    if problem:
        raise EndpointError(f"{client.address}: {problem}")
    return answer.astype(np.float32 if answers == "scores" else np.int64)
