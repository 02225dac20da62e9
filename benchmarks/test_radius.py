"""Certified radii by branch and bound: what going on from the last radius saves.

```
.venv/bin/pytest benchmarks/test_radius.py --benchmark-enable -o testpaths=benchmarks
```
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

import aisec_eval as ae
from aisec_eval.certifiers import Complete
from aisec_eval.certifiers.complete import decide

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest
    from pytest_benchmark.fixture import BenchmarkFixture

SAMPLES = 4


def test_radii_from_the_last_tree(
    benchmark: BenchmarkFixture,
    reference: Path,
    report: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = ae.load_model(reference / "models" / "mnist_cnn_a_adv.onnx")
    file = next(p for p in sorted((reference / "images").glob("*.npz")) if "mnist" in p.name)
    x = np.load(file)["x"][:SAMPLES].astype(np.float32).reshape(-1, *model.input_shape)
    x = x / np.float32(255) if x.max() > 1 else x
    y = model.logits(x).argmax(axis=1)
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
