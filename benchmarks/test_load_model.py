"""What reading, lowering and checking an ONNX file takes, beside opening it in onnxruntime."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import onnxruntime
import pytest

import aisec_eval as ae

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

InTurn: TypeAlias = "Callable[..., dict[str, float]]"


@pytest.mark.parametrize("name", ["mnist_cnn_a_adv", "cifar_resnet2b"])
def test_load_model(
    name: str,
    reference: Path,
    benchmark: Any,
    report: Callable[[str], None],
    in_turn: InTurn,
) -> None:
    path = reference / "models" / f"{name}.onnx"

    def load() -> None:
        ae.load_model(path)

    def session() -> None:
        onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    best = in_turn({"load": load, "session": session})
    report(
        f"load_model {name}: {1e3 * best['load']:.1f} ms with four inputs checked; "
        f"an onnxruntime session takes {1e3 * best['session']:.1f} ms"
    )
    benchmark.extra_info.update(best)
    benchmark.pedantic(load, rounds=1)
