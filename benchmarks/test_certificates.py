"""The checker of certificates: parts proven a second on ACAS Xu, and its cost beside the certifier.

```
make bench, or
.venv/bin/pytest benchmarks/test_certificates.py --benchmark-enable -o testpaths=benchmarks
```
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

import aisec_eval as ae
from aisec_eval.certifiers.certificate import check_certificate, read_text
from aisec_eval.models import load_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_benchmark.fixture import BenchmarkFixture

NETS = {
    "mnist_cnn_a_adv": ("mnist", ae.Linf(0.1)),
    "cifar_cnn_a_adv": ("cifar", ae.Linf("2/255")),
    "cifar_resnet2b": ("cifar", ae.Linf("1/255")),
}


@pytest.mark.parametrize(
    ("net", "prop"), [("1_1", 3), ("1_1", 4), ("2_4", 3), ("4_7", 1), ("4_2", 2)]
)
def test_acasxu(
    net: str,
    prop: int,
    benchmark: BenchmarkFixture,
    reference: Path,
    report: Callable[[str], None],
    tmp_path: Path,
) -> None:
    folder = reference / "vnncomp" / "acasxu"
    (onnx,) = folder.glob(f"onnx/*_{net}_*.onnx*")
    path = tmp_path / "p.cert.gz"
    answer = ae.verify(
        onnx, folder / "vnnlib" / f"prop_{prop}.vnnlib.gz", timeout=60, certificate=path
    )
    assert answer.status == "unsat"
    graph = load_model(onnx).graph
    assert graph is not None
    started = time.perf_counter()
    found = benchmark.pedantic(lambda: check_certificate(graph, path), rounds=3, iterations=1)
    seconds = (time.perf_counter() - started) / 3
    assert found.holds, found.reason
    leaves = sum(case.leaves for case in found.cases)
    report(
        f"net {net}, property {prop}: {leaves} leaves, {answer.domains} boxes in {seconds:.2f} s: "
        f"{leaves / seconds:.0f} leaves/s ({answer.domains / seconds:.0f} boxes/s); searched in "
        f"{answer.seconds:.2f} s, in float64, errors charged on the way, without a second pass; "
        f"checked in {100 * seconds / answer.seconds:.0f} % of that; "
        f"{path.stat().st_size / 1024:.0f} KiB, "
        f"{len(read_text(path)) / 1024:.0f} KiB unpacked"
    )


@pytest.mark.parametrize("name", NETS)
def test_images(
    name: str, benchmark: BenchmarkFixture, reference: Path, report: Callable[[str], None]
) -> None:
    images, threat = NETS[name]
    model = load_model(reference / "models" / f"{name}.onnx")
    assert model.graph is not None
    file = next(p for p in sorted((reference / "images").glob("*.npz")) if images in p.name)
    x = np.load(file)["x"][:8].astype(np.float32).reshape(-1, *model.input_shape)
    x = x / np.float32(255) if x.max() > 1 else x
    y = model.logits(x).argmax(axis=1)
    started = time.process_time()
    result = ae.certify(model, x, y, threat)
    certified = (time.process_time() - started) / len(x)
    rows = np.flatnonzero(result.certified)[:3]

    def check() -> bool:
        return all(check_certificate(model.graph, result.certificate[row]).holds for row in rows)

    started = time.process_time()
    assert benchmark.pedantic(check, rounds=1, iterations=1)
    checked = (time.process_time() - started) / len(rows)
    report(
        f"{name} {threat}: CROWN {1e3 * certified:.0f} ms of processor an image, checked in "
        f"{1e3 * checked:.0f} ms: {checked / certified:.1f} times"
    )
