"""A set attacked whole or in parts gives the same, when the whole set is the pool."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import aisec_eval as ae

MODEL = Path(__file__).parents[2] / "suites/models/digits_normal.onnx"


@pytest.mark.parametrize("threat", [ae.Linf("1/16"), ae.L2("3/20")], ids=str)
def test_parts_give_what_the_whole_gives(threat: ae.Linf | ae.L2) -> None:
    model = ae.load_model(str(MODEL))
    data = ae.load_dataset("digits", split="test", ids=(0, 60))
    x, y = data

    def rows(part: slice) -> ae.Evaluation:
        return ae.evaluate(
            model,
            x[part],
            y[part],
            threat,
            attacks=[ae.attacks.FMN(steps=10, starts=2)],
            certify=None,
            sample_ids=data.ids[part],
            pool=(x, y),
        )

    whole, parts = rows(slice(None)), [rows(slice(0, 23)), rows(slice(23, None))]
    assert (whole.verdict == ae.VERDICTS.index("broken")).any()
    for name in ("verdict", "margin", "distance", "x_adv", "found_by"):
        joined = np.concatenate([np.asarray(getattr(part, name)) for part in parts])
        np.testing.assert_array_equal(np.asarray(getattr(whole, name)), joined, err_msg=name)
    for name in ("forwards", "gradients", "queries"):
        joined = np.concatenate([getattr(part.spent, name) for part in parts])
        np.testing.assert_array_equal(getattr(whole.spent, name), joined, err_msg=name)
