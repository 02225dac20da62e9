"""Certified radii beside single certifications, and what going on from the last radius saves.

```
.venv/bin/pytest benchmarks/test_radius.py --benchmark-enable -o testpaths=benchmarks
```
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import aisec_eval as ae
from aisec_eval._validate import check_samples
from aisec_eval.certifiers import Complete
from aisec_eval.certifiers.complete import decide
from aisec_eval.certifiers.radius import nearest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray
    from pytest_benchmark.fixture import BenchmarkFixture

SAMPLES = 4


def images(reference: Path, count: int) -> tuple[ae.Model, NDArray[np.float32], NDArray[np.int64]]:
    model = ae.load_model(reference / "models" / "mnist_cnn_a_adv.onnx")
    pixels = np.load(reference / "images" / "mnist_test.npz")["x"][:count, None]
    x = pixels.astype(np.float32) / np.float32(255)
    return model, x, model.logits(x).argmax(axis=1).astype(np.int64)


@pytest.mark.parametrize("method", ["crown", "alpha-crown"])
def test_radii_beside_one_certification(
    benchmark: BenchmarkFixture, reference: Path, report: Callable[[str], None], method: str
) -> None:
    model, x, y = images(reference, 32)
    threat = ae.Linf("0.1")

    def seconds(call: Callable[[], ae.CertifyResult]) -> tuple[float, ae.CertifyResult]:
        best, result = np.inf, call()
        for _ in range(3):
            began = time.process_time()
            result = call()
            best = min(best, time.process_time() - began)
        return best, result

    given, _ = seconds(lambda: ae.certify(model, x, y, threat, method=method))
    all_, result = seconds(lambda: ae.certify(model, x, y, threat, method=method, radius=True))
    assert result.radius is not None
    assert result.radius_upper is not None
    last = [ae.Linf(float(radius)) for radius in result.radius]
    again, certified = seconds(lambda: ae.certify(model, x, y, last, method=method))
    assert certified.certified.all()
    began = time.process_time()
    nearest(model.graph, check_samples(model, x, y), threat)
    attack = time.process_time() - began
    report(
        f"32 radii, {method}: {1e3 * all_ / 32:.1f} ms of processor an image, {attack / all_:.0%} "
        f"of it attacks; = {all_ / given:.1f} x certifying radius 0.1, {all_ / again:.1f} x "
        f"certifying the radius found; mean {result.radius.mean():.4f}"
    )
    benchmark.pedantic(lambda: None, rounds=1)


def test_radii_from_the_last_tree(
    benchmark: BenchmarkFixture,
    reference: Path,
    report: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, x, y = images(reference, SAMPLES)
    found: dict[bool, tuple[ae.CertifyResult, float, int]] = {}

    def run() -> None:
        for warm in (False, True):
            domains = 0

            def counted(*args: Any, start: Any = None, warm: bool = warm, **options: Any) -> Any:
                nonlocal domains
                result = decide(*args, start=start if warm else None, **options)
                domains += result.domains
                return result

            monkeypatch.setattr("aisec_eval.certifiers.complete.decide", counted)
            began = time.process_time()
            result = ae.certify(model, x, y, ae.Linf(0.1), method=Complete(timeout=10), radius=True)
            found[warm] = (result, time.process_time() - began, domains)

    benchmark.pedantic(run, rounds=1)
    for warm, (result, seconds, domains) in found.items():
        assert result.radius is not None
        assert result.radius_upper is not None
        gap = (result.radius_upper - result.radius) / result.radius_upper
        name = "from the last tree" if warm else "from nothing"
        report(
            f"{SAMPLES} radii {name}: {seconds:.1f} s of processor, {domains} parts, "
            f"mean gap {100 * gap.mean():.2f} %"
        )
    report(f"saved: {found[False][1] / found[True][1]:.2f} times")
