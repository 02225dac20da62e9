"""Subspace detectors beside one float32 GEMM of the same data, and beside what users have today."""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import aisec_eval as ae

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

ROWS, CLASSES, DIM = 100_000, 10, 128
METHODS = ["spectral", "activation-clustering", "activation-clustering-ica", "scan", "lda"]
SCENARIOS = ["badnets_5", "wanet_5", "flip_5"]


def draw(rows: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Gaussian classes, apart, with a few strong directions."""
    random = np.random.default_rng(0)
    y = np.arange(rows, dtype=np.int64) % CLASSES
    x = random.standard_normal((rows, DIM), dtype=np.float32)
    x[:, :10] *= 3
    x += random.standard_normal((CLASSES, DIM), dtype=np.float32)[y]
    return x, y


@pytest.mark.parametrize("method", METHODS)
def test_subspace(
    method: str,
    benchmark: Any,
    report: Callable[[str], None],
    in_turn: Callable[..., dict[str, float]],
) -> None:
    """Seconds of a scan, in units of x.T @ x in float32 (numpy computes half of it)."""
    x, y = draw(ROWS)
    scan = functools.partial(ae.scan, x, y, method=method)
    best = in_turn({"scan": scan, "gemm": lambda: x.T @ x}, seconds=2.0)
    ratio = best["scan"] / best["gemm"]
    benchmark.extra_info["times_of_gemm"] = ratio
    report(
        f"{method:26} {ROWS} x {DIM}: {best['scan']:6.3f} s = {ratio:6.1f} x numpy's float32 "
        f"x.T @ x ({best['gemm']:.3f} s)"
    )
    benchmark.pedantic(scan, rounds=1, iterations=1)


def test_clusters_beside_scikit_learn(
    benchmark: Any, report: Callable[[str], None], in_turn: Callable[..., dict[str, float]]
) -> None:
    """One class: PCA, two-means, silhouette, as other tools put them together, and ours."""
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA
    from sklearn.metrics import silhouette_score

    x, _ = draw(10_000)

    def theirs() -> float:
        z = PCA(10).fit_transform(x)
        return float(silhouette_score(z, KMeans(2, n_init=8, random_state=0).fit_predict(z)))

    ours = functools.partial(ae.scan, x, method="activation-clustering")
    best = in_turn({"ours": ours, "scikit-learn": theirs}, seconds=2.0)
    ratio = best["scikit-learn"] / best["ours"]
    benchmark.extra_info["times_faster"] = ratio
    report(
        f"activation clustering of 10,000 x {DIM}: {best['ours']:.3f} s with its null, "
        f"scikit-learn {best['scikit-learn']:.3f} s: {ratio:.1f} times"
    )
    benchmark.pedantic(ours, rounds=1, iterations=1)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_quality(
    scenario: str, reference: Path, benchmark: Any, report: Callable[[str], None]
) -> None:
    """AUROC and true positives at 1 % false ones, nothing told but what the name says."""
    from sklearn.metrics import roc_auc_score

    with np.load(reference / "poison" / f"mnist_{scenario}.npz") as data:
        x, y, poison = data["features"], data["labels"], data["poison"]
        clean = data["clean_features"], data["clean_labels"]
    calls: dict[str, Callable[[], Any]] = {
        method: functools.partial(ae.scan, x, y, method=method)
        for method in [*METHODS, "spectre", "legacy_uncentred"]
    }
    calls["scan, 500 clean"] = functools.partial(ae.scan, x, y, method="scan", clean=clean)
    calls["spectre, rate 1/3"] = functools.partial(ae.scan, x, y, method="spectre", rate=1 / 3)
    for name, call in calls.items():
        start = time.perf_counter()
        result = call()
        seconds = time.perf_counter() - start
        area = float(roc_auc_score(poison, result.score))
        found = float((result.score[poison] > np.quantile(result.score[~poison], 0.99)).mean())
        benchmark.extra_info[name] = (area, found)
        alarm = result.info.get("dataset", {}).get("poisoned")
        report(
            f"{scenario:10} {name:26} AUROC {area:.3f}  TPR at 1 % {found:.2f}  alarm {alarm!s:5}"
            f"  {seconds:.2f} s"
        )
    benchmark.pedantic(calls["scan"], rounds=1, iterations=1)
