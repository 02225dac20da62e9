"""On random networks with two inputs the whole threat model can be searched: the bracket holds."""

import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import aisec_eval as ae

BROKEN, CERTIFIED, OPEN = 1, 2, 3
STEPS = 41


def network(seed, width, classes):
    random = np.random.default_rng(seed)
    first = random.normal(size=(2, width)).astype(np.float32)
    shift = random.normal(size=width).astype(np.float32)
    last = random.normal(size=(width, classes)).astype(np.float32)
    apply = ae.load_model(
        lambda x: jnp.maximum(x @ first + shift, 0) @ last, input_shape=(2,), name="random"
    )
    parts = [part.astype(np.float64) for part in (first, shift, last)]
    return apply, lambda x: np.maximum(x @ parts[0] + parts[1], 0) @ parts[2]


def region(threat, x):
    """Points of a grid over the threat model around `x`, its border among them."""
    eps = float(threat.eps)
    line = np.linspace(-eps, eps, STEPS)
    grid = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    if threat.norm == "l2":
        angle = np.linspace(0, 2 * np.pi, 8 * STEPS)
        grid = grid[(grid**2).sum(axis=1) <= eps**2]
        grid = np.concatenate([grid, eps * np.stack([np.cos(angle), np.sin(angle)], axis=1)])
    return np.clip(x.astype(np.float64) + grid, 0, 1)


@settings(max_examples=15)
@given(
    seed=st.integers(0, 10**6),
    width=st.integers(1, 12),
    classes=st.integers(2, 4),
    norm=st.sampled_from([ae.Linf, ae.L2]),
    eps=st.sampled_from(["1/100", "1/20", "1/5"]),
    certify=st.sampled_from(["ibp", "crown"]),
)
def test_certified_below_robust_below_attacked(seed, width, classes, norm, eps, certify):
    model, exact = network(seed, width, classes)
    x = np.random.default_rng(seed + 1).uniform(0, 1, (20, 2)).astype(np.float32)
    y = exact(x.astype(np.float64)).argmax(axis=1)
    threat = norm(eps)
    attacks = [ae.attacks.APGD(steps=15), ae.attacks.Square(queries=100)]
    e = ae.evaluate(model, x, y, threat, attacks=attacks, certify=certify)
    for row in range(len(x)):
        logits = exact(region(threat, x[row]))
        own = logits[:, y[row]].copy()
        logits[:, y[row]] = -np.inf
        worst = (own - logits.max(axis=1)).min()
        if e.verdict[row] == CERTIFIED:
            assert worst > 0
        # No point of the region has a margin below the proven bound.
        assert worst >= e.margin_lower[row]
        if e.verdict[row] == OPEN:
            # The attacks saw what a fine grid sees, up to its mesh.
            assert worst > -0.05 * max(1, abs(own).max())
    adversarial = exact(e.x_adv.astype(np.float64)).argmax(axis=1)
    assert (adversarial != y[e.verdict == BROKEN]).all()
