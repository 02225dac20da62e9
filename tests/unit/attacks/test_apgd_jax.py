"""The step-size schedule of the JAX path is the native one."""

from __future__ import annotations

from aisec_eval.attacks.apgd_jax import checkpoints


def test_golden_checkpoints() -> None:
    assert checkpoints(100) == (22, 41, 57, 70, 80, 87, 93, 99)
    assert checkpoints(10) == (2, 3, 4, 5, 6, 7, 8, 9, 10)
    assert checkpoints(1) == (1,)
    assert checkpoints(0) == ()
