"""Certificates of every kind that is written, changed in one place each: all are refused."""

from __future__ import annotations

import copy
import itertools
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import aisec_eval as ae
from aisec_eval import _core
from aisec_eval.certifiers.certificate import PLAIN_METHODS
from aisec_eval.certifiers.property import Case, Clause, Property
from helpers.networks import LayeredModel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from aisec_eval._core import Graph

SITES = 40
"""Places of one kind that are tried, evenly spread over all there are."""
SHIFT = 1e-6
"""Relative to 1 or the number itself."""


def network(inputs: int, *hidden: int) -> LayeredModel:
    rng = np.random.default_rng(inputs)
    sizes = (inputs, *hidden, 3)
    layers = [
        (rng.normal(size=(m, n)) / np.sqrt(n) * 1.5, rng.normal(size=m) * 0.2)
        for n, m in itertools.pairwise(sizes)
    ]
    return LayeredModel(layers, (inputs,))


def sample(
    model: LayeredModel, method: str, threats: list[Any], **options: Any
) -> tuple[Graph, Any]:
    """Return the certificate of a sample that the method certifies, and plain CROWN does not."""
    x = np.random.default_rng(0).random((60, *model.input_shape), dtype=np.float32)
    y = model.logits(x).argmax(axis=1).astype(np.int64)
    graph = model.graph
    assert graph is not None
    for threat in threats:
        result = ae.certify(model, x, y, threat, method=method, **options)
        rows = result.certified
        if method not in PLAIN_METHODS:
            rows = rows & ~ae.certify(model, x, y, threat, method="crown").certified
        for row in np.flatnonzero(rows)[:3]:
            found = result.certificate[int(row)]
            found = found if method in PLAIN_METHODS else found.proven(graph)
            text = found.text()
            if method in PLAIN_METHODS or '"slopes"' in text:
                return graph, json.loads(text)
    raise AssertionError("no sample is certified by this method alone")


def cases(model: LayeredModel, folder: Path) -> tuple[Graph, Any]:
    """Return the certificate of a property of several boxes, each with several clauses."""
    n = model.input_shape[0]
    center = np.full(n, 0.5)
    size = 0.25 if n < 20 else 0.1
    boxes = [(center - size, center), (center, center + size), (center - size / 2, center + size)]
    rows = np.array([[1.0, -1.0, 0.0], [1.0, 0.0, -1.0]])
    low, high = (np.stack(side) for side in zip(*boxes, strict=True))
    graph = model.graph
    assert graph is not None
    spec = np.broadcast_to(rows, (3, *rows.shape)).copy()
    # Between what CROWN proves and what corners and points reach.
    bound = _core.margin_bounds(graph, low, high, spec=spec, method="crown").min()
    points = np.random.default_rng(0).random((20_000, n))
    points[::2] = np.round(points[::2])
    outputs = [graph.forward64(a + (b - a) * points) for a, b in boxes]
    share = 0.3 if n < 20 else 0.05
    rhs = np.array([share * min((y @ rows.T).min() for y in outputs) + (1 - share) * bound])
    clauses = [Clause(row[None], rhs, rhs) for row in rows]
    clauses.append(Clause(rows, rhs.repeat(2), rhs.repeat(2)))
    asked = Property(n, 3, tuple(Case(a, b, a, b, tuple(clauses)) for a, b in boxes))
    path = folder / "p.cert"
    result = ae.verify(model, asked, certificate=path, timeout=30)
    assert result.status == "unsat"
    assert result.domains > 3
    return graph, json.loads(path.read_text())


SIZES = [ae.Linf(eps) for eps in (0.06, 0.08, 0.1, 0.12, 0.15)]
KINDS: dict[str, Callable[[Path], tuple[Graph, Any]]] = {
    "ibp": lambda _: sample(network(4, 8), "ibp", [ae.Linf(0.01)]),
    "crown": lambda _: sample(network(4, 8, 8), "crown", [ae.Linf(0.05)]),
    "crown l2": lambda _: sample(network(4, 8, 8), "crown", [ae.L2(0.05)]),
    "alpha-crown": lambda _: sample(network(4, 12, 12), "alpha-crown", SIZES),
    "alpha-crown l2": lambda _: sample(
        network(4, 12, 12), "alpha-crown", [ae.L2(eps) for eps in (0.1, 0.15, 0.2, 0.25)]
    ),
    "complete": lambda _: sample(network(4, 12, 12), "complete", SIZES[::-1]),
    "radius": lambda _: sample(network(4, 8, 8), "crown", [ae.Linf(0.05)], radius=True),
    "inputs split": lambda folder: cases(network(4, 8, 8), folder),
    "signs split": lambda folder: cases(network(24, 10, 10), folder),
}
WITH_SLOPES = ("alpha-crown", "alpha-crown l2", "complete", "signs split")


@pytest.fixture(scope="module", params=KINDS)
def good(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    graph, certificate = KINDS[request.param](tmp_path_factory.mktemp("certificates"))
    assert refusal(graph, certificate) == ""
    return request.param, graph, certificate


def refusal(graph: Graph, certificate: Any) -> str:
    try:
        _core.check_certificate(graph, json.dumps(certificate).encode())
    except ValueError as error:
        return str(error)
    return ""


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the paths of everything in a document."""
    yield at
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(item, (*at, key))


def spread(found: list[Any]) -> list[Any]:
    return found[:: max(1, -(-len(found) // SITES))]


def put(certificate: Any, at: tuple[Any, ...], change: Callable[[Any], Any]) -> Any:
    changed = copy.deepcopy(certificate)
    inner = changed
    for key in at[:-1]:
        inner = inner[key]
    inner[at[-1]] = change(inner[at[-1]])
    assert changed != certificate
    return changed


def shifted(sign: int) -> Callable[[str], str]:
    def change(text: str) -> str:
        value = float.fromhex(text)
        return (value + sign * SHIFT * (1 + abs(value))).hex()

    return change


def test_another_graph(good: Any) -> None:
    _, graph, certificate = good
    for at in range(0, 64, 7):
        digest = certificate["graph"]
        other = digest[:at] + ("1" if digest[at] == "0" else "0") + digest[at + 1 :]
        assert "is of graph" in refusal(graph, {**certificate, "graph": other})


def test_leaves_dropped_or_doubled(good: Any) -> None:
    _, graph, certificate = good
    leaves = [
        (number, at)
        for number, case in enumerate(certificate["cases"])
        for at, entry in enumerate(case["proof"])
        if "leaf" in entry
    ]
    for number, at in spread(leaves):
        for times in (0, 2):
            changed = copy.deepcopy(certificate)
            proof = changed["cases"][number]["proof"]
            proof[at : at + 1] = proof[at : at + 1] * times
            assert refusal(graph, changed)
        # A leaf that says nothing, where bounds above it do not refute everything.
        refutations = certificate["cases"][number]["proof"][at]["leaf"]
        if refutations:
            changed = copy.deepcopy(certificate)
            changed["cases"][number]["proof"][at]["leaf"] = refutations[1:]
            assert "is not refuted" in refusal(graph, changed)


def test_slopes_out_of_range(good: Any) -> None:
    kind, graph, certificate = good
    slopes = [
        at
        for at in places(certificate["cases"])
        if len(at) > 3 and at[-2] in ("lower", "upper") and at[-4] == "slopes"
    ]
    packed = [at for at in places(certificate["cases"]) if at and at[-1] == "packed"]
    assert slopes or packed or kind not in WITH_SLOPES
    for at in spread(packed):
        for outside in ("81", "ff", "-1", "8G"):
            changed = put(certificate, ("cases", *at), lambda old, to=outside: to + old[2:])
            assert "two hexadecimal digits" in refusal(graph, changed)
        for part in (slice(2, None), slice(1, None)):
            changed = put(certificate, ("cases", *at), lambda old, part=part: old[part])
            assert refusal(graph, changed)
    for at in spread(slopes):
        for outside in (-1e-9, 1 + 1e-9, -1.0, 2.0):
            changed = put(certificate, ("cases", *at), lambda _, to=outside: to.hex())
            assert "not in [0, 1]" in refusal(graph, changed)


def test_multipliers_below_zero(good: Any) -> None:
    _, graph, certificate = good
    signed = [
        at for at in places(certificate["cases"]) if len(at) > 2 and at[-2] in ("weights", "betas")
    ]
    for at in spread(signed):
        changed = put(certificate, ("cases", *at), lambda _: (-1e-9).hex())
        assert "negative" in refusal(graph, changed)


def test_bounds_shifted(good: Any) -> None:
    kind, graph, certificate = good
    bounds = [at for at in places(certificate["cases"]) if at and at[-1] == "bound"]
    # Proofs by inputs state none: the checker finds them.
    assert bounds or kind == "inputs split"
    for at in spread(bounds):
        assert "is claimed" in refusal(graph, put(certificate, ("cases", *at), shifted(1)))
    claims = [
        at
        for at in places(certificate["cases"])
        if len(at) > 3 and at[-4] == "claims" and at[-2] in ("lower", "upper")
    ]
    refused = 0
    for at in spread(claims):
        side, element = at[-2], at[-1]
        changed = put(certificate, ("cases", *at), shifted(1 if side == "lower" else -1))
        claim = changed["cases"][at[0]]["proof"][at[2]]["bounds"]["claims"][at[-3]]
        if refusal(graph, changed):
            refused += 1
            continue
        # Accepted only where the usual lines prove more than was claimed: never by slopes that were
        # sought for this very bound, and never what a point refutes.
        assert all(element not in part.get(side, ()) for part in claim.get("by", ()))
        region = certificate["cases"][at[0]]["region"]
        low, high = (
            np.array([float.fromhex(v) for v in region[end]]) for end in ("lower", "upper")
        )
        points = np.random.default_rng(0).random((200, len(low)))
        points[::2] = np.round(points[::2])
        values = graph.forward64(low + (high - low) * points, claim["node"])[:, element]
        value = float.fromhex(claim[side][element])
        assert (values >= value - 1e-12 if side == "lower" else values <= value + 1e-12).all()
    assert not claims or refused > len(spread(claims)) / 4
