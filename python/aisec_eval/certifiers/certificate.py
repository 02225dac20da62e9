"""Certificates: what was proven and how, for the independent checker; see docs/certificates.md."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _files
from ..errors import InputError, RunError
from ..threats import Box
from .region import Regions

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from aisec_eval._core import Graph

    from ..threats import ThreatModel
    from .property import Case as PropertyCase
    from .property import Property

FORMAT = "aisec certificate"
MAX_FILE = 256 << 20
"""Largest certificate file that is read, in bytes."""
MAX_TEXT = 1 << 30
"""Largest certificate once decompressed."""
PLAIN_METHODS = ("ibp", "crown-ibp", "crown")
"""Methods whose proofs follow a rule that the checker knows: nothing needs to be stored."""


@dataclass(frozen=True, eq=False)
class Case:
    """No point of a region meets any of some clauses, and the proof of it."""

    lower: NDArray[np.float64]
    """[inputs]"""
    upper: NDArray[np.float64]
    ball: tuple[str, NDArray[np.float64], float] | None
    """Norm ("l1" or "l2"), centre [inputs] and radius of a ball the box is cut with."""
    clauses: tuple[tuple[NDArray[np.float64], NDArray[np.float64]], ...]
    """Rows [k, outputs] and right-hand sides [k] of `rows @ y <= rhs`."""
    proof: str
    """JSON."""

    def text(self) -> str:
        """Return the case as JSON."""
        ball = None
        if self.ball is not None:
            norm, center, radius = self.ball
            ball = {"norm": norm, "center": _hex(center), "radius": radius.hex()}
        about = {
            "region": {"lower": _hex(self.lower), "upper": _hex(self.upper), "ball": ball},
            "clauses": [
                {"rows": [_hex(row) for row in rows], "rhs": _hex(rhs)}
                for rows, rhs in self.clauses
            ],
        }
        head = json.dumps(about, separators=(",", ":"))
        return f'{head[:-1]},"proof":{self.proof}}}'


def case_of(question: PropertyCase, proof: str) -> Case:
    """Return a case of a property with its proof.

    A right-hand side is the one rounded up: what cannot be met there cannot be met at all.
    """
    clauses = tuple((clause.rows, clause.rhs_upper) for clause in question.clauses)
    return Case(question.lower, question.upper, None, clauses, proof)


@dataclass(frozen=True, eq=False)
class Ball:
    """That one sample keeps its label in a threat model, with margins of at least `bounds`.

    The case is laid out when it is asked for: until then a sample's certificate is small.
    """

    x: NDArray[np.float32]
    """[*input_shape]"""
    label: int
    threat: ThreatModel
    bounds: NDArray[np.float64]
    """Of z_y - z_i for each other class i ascending [num_classes - 1], above zero."""
    method: str
    proof: str = ""
    """JSON; empty where the method's usual rule proves the bounds."""

    def case(self) -> Case:
        """Return the region, the clauses and the proof.

        Raises:
            InputError: the method keeps no proof.
        """
        from .._core import plain_proof

        if not self.proof and self.method not in PLAIN_METHODS:
            raise InputError(
                f"method {self.method!r} keeps no proof; "
                "`certificate.proven(model.graph)` searches for one"
            )
        return Case(
            *region_of(self.x, self.threat),
            clauses=tuple(
                (row[None], np.zeros(1)) for row in margin_rows(self.label, len(self.bounds) + 1)
            ),
            proof=self.proof or plain_proof(self.method, self.bounds.tolist()),
        )


@dataclass(frozen=True, eq=False)
class Certificate(Mapping[str, Any]):
    """A certificate: a mapping of what it says, and the text that proves it.

    `save` writes it to a file that `aisec-eval check` and `check_certificate` read.
    """

    about: Mapping[str, Any]
    graph: str
    """Digest of the graph it is of."""
    cases: tuple[Case | Ball, ...]

    def text(self) -> str:
        """Return the certificate as JSON.

        Raises:
            InputError: the method keeps no proof.
        """
        cases = [case.case() if isinstance(case, Ball) else case for case in self.cases]
        head = json.dumps({"format": FORMAT, "version": 2, "graph": self.graph})
        return f'{head[:-1]},"cases":[{",".join(case.text() for case in cases)}]}}\n'

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the certificate, compressed where the name ends in `.gz`; return the path.

        Raises:
            RunError: it cannot be written.
            InputError: the method keeps no proof.
        """
        target, data = Path(path), self.text().encode()
        if target.suffix == ".gz":
            data = gzip.compress(data, mtime=0)
        return _files.write_bytes(target, data)

    def proven(self, graph: Graph) -> Certificate:
        """Return the certificate with a proof of that the label is kept, whatever the method.

        Slopes and splits are not kept with results; they are searched for again.

        Raises:
            InputError: the graph is another one, or no proof was found.
        """
        from .prove_again import search

        if graph.digest != self.graph:
            raise InputError(f"the certificate is of graph {self.graph}, not {graph.digest}")
        cases: list[Case | Ball] = []
        for ball in self.cases:
            case: Case | Ball | None = ball
            if isinstance(ball, Ball) and ball.method not in PLAIN_METHODS:
                case = search(graph, ball.x, ball.label, ball.threat, 0.0, len(ball.bounds) + 1)
            if case is None:
                raise InputError("no proof was found in the time that is given for one")
            cases.append(case)
        return Certificate(self.about, self.graph, tuple(cases))

    def __getitem__(self, key: str) -> Any:
        """Return one of the things it says."""
        return self.about[key]

    def __iter__(self) -> Iterator[str]:
        """Iterate over their names."""
        return iter(self.about)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.about)

    def __eq__(self, other: object) -> bool:
        """Certificates are equal when they say the same of the same graph."""
        if not isinstance(other, Certificate):
            return NotImplemented
        return self.graph == other.graph and dict(self.about) == dict(other.about)

    def __hash__(self) -> int:
        """Hash of the graph's digest."""
        return hash(self.graph)


@dataclass(frozen=True, eq=False)
class ProvenCase:
    """What the checker found to be proven: no point of the region meets any of the clauses."""

    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    ball: tuple[str, NDArray[np.float64], float] | None
    clauses: list[tuple[NDArray[np.float64], NDArray[np.float64]]]
    bounds: NDArray[np.float64]
    """The least bound claimed of each clause; infinite where clipping alone refutes it."""
    leaves: int
    """Parts of the region that were proven one by one."""


@dataclass(frozen=True, eq=False)
class Checked:
    """Whether a certificate was accepted."""

    holds: bool
    reason: str
    """Why it was not, in one line."""
    cases: tuple[ProvenCase, ...] = ()


def check_certificate(
    graph: Graph, certificate: Certificate | str | os.PathLike[str], *, exact: bool = False
) -> Checked:
    """Check a certificate with code that shares nothing with what wrote it.

    Args:
        graph: the network's graph.
        certificate: a certificate, or the path of a file.
        exact: in rational arithmetic instead of float64: slow, for small networks.

    Returns:
        Whether it holds, why not, and what it proves.

    Raises:
        RunError: the file cannot be read.
    """
    from .._core import check_certificate as check

    if isinstance(certificate, Certificate):
        text = certificate.text().encode()
    else:
        text = read_text(Path(certificate))
    try:
        cases = check(graph, text, exact=exact)
    except ValueError as error:
        return Checked(False, str(error))
    return Checked(True, "", tuple(ProvenCase(*case) for case in cases))


def read_text(path: Path) -> bytes:
    """Return what a certificate file holds, decompressed where it is compressed.

    Raises:
        RunError: missing, too large, or damaged.
    """
    with _files._read_errors(path):
        if not path.is_file():
            raise FileNotFoundError
        if path.stat().st_size > MAX_FILE:
            raise RunError(f"{path}: larger than {MAX_FILE >> 20} MiB; not read")
        data = path.read_bytes()
    if not data.startswith(b"\x1f\x8b"):
        return data
    unpack = zlib.decompressobj(wbits=31)
    try:
        text = unpack.decompress(data, MAX_TEXT)
    except zlib.error as error:
        raise RunError(f"{path}: damaged ({error}); restore the file") from None
    if unpack.unconsumed_tail:
        raise RunError(f"{path}: larger than {MAX_TEXT >> 20} MiB once decompressed; not read")
    if not unpack.eof or unpack.unused_data:
        raise RunError(f"{path}: damaged (cut short, or more than one file); restore the file")
    return text


def proves(checked: Checked, question: Property) -> str:
    """Say what of a property the certificate leaves open, in one line; nothing if it is proven.

    Args:
        checked: a certificate that holds.
        question: what `read_vnnlib` returned.
    """
    if question.unsupported:
        return f"the property cannot be represented: {question.unsupported}"
    for number, case in enumerate(question.cases):
        for at in range(len(case.clauses)):
            if not any(_covers(proven, case, at) for proven in checked.cases):
                return f"clause {at} of case {number} of the property is not in the certificate"
    return ""


def _covers(proven: ProvenCase, case: PropertyCase, at: int) -> bool:
    clause = case.clauses[at]
    inside = (
        proven.ball is None
        and proven.lower.shape == case.lower.shape
        and bool((proven.lower <= case.lower).all() and (case.upper <= proven.upper).all())
    )
    return inside and any(
        np.array_equal(rows, clause.rows) and bool((rhs >= clause.rhs_upper).all())
        for rows, rhs in proven.clauses
    )


def region_of(
    x: NDArray[np.float32], threat: ThreatModel
) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[str, NDArray[np.float64], float] | None]:
    """Return corners and ball of the threat model around one sample, rounded outward."""
    region = Regions.around(x[None], threat)
    lower, upper = region.lower.reshape(-1), region.upper.reshape(-1)
    if region.center is None or isinstance(threat, Box):
        return lower, upper, None
    center, radius = region.center.reshape(-1), float(region.radius)
    # One float further out than the nearest ones: no real point of the ball is left out.
    below = np.nextafter(center - radius, -np.inf) if radius else center
    above = np.nextafter(center + radius, np.inf) if radius else center
    lower, upper = np.maximum(lower, below), np.minimum(upper, above)
    ball = None if region.norm == "linf" else (region.norm, center, radius)
    return lower, upper, ball


def margin_rows(label: int, classes: int) -> NDArray[np.float64]:
    """Return the rows `z_label - z_i` for each other class i ascending [classes - 1, classes]."""
    rows = -np.eye(classes)
    rows[:, label] = 1.0
    return np.delete(rows, label, axis=0)


def _hex(values: Sequence[float] | NDArray[np.float64]) -> list[str]:
    return [float(value).hex() for value in values]
