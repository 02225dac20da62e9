"""The bracket on published models, beside what every attack of the reference data left standing."""

import numpy as np
import pytest

import aisec_eval as ae
from aisec_eval.results import VERDICTS

pytestmark = pytest.mark.reference
MISCLASSIFIED, BROKEN, CERTIFIED, OPEN, ERROR = range(len(VERDICTS))


@pytest.fixture(scope="module")
def mnist(reference):
    images = np.load(reference / "images" / "mnist_test.npz")
    model = ae.load_model(reference / "models" / "mnist_cnn_a_adv.onnx")
    x = images["x"][:500, None].astype(np.float32) / np.float32(255)
    return model, x, images["y"][:500].astype(np.int64)


@pytest.mark.parametrize(
    ("threat", "name"),
    [(ae.Linf("0.3"), "linf_0.3"), (ae.L2(2), "l2_2.0")],
)
def test_the_bracket_holds_what_is_known(reference, mnist, threat, name):
    model, x, y = mnist
    [path] = sorted((reference / "reference").glob(f"attack_mnist_cnn_a_adv_{name}*.npz"))
    known = np.load(path)
    rows = slice(0, 60)
    e = ae.evaluate(model, x[rows], y[rows], threat)
    assert np.array_equal(e.verdict != MISCLASSIFIED, known["clean_correct"][rows])
    standing = known["best_known_robust"][rows].astype(bool)
    # What some attack broke is not certified.
    assert not (e.verdict == CERTIFIED)[~standing].any()
    assert e.bracket.certified <= standing.mean()
    # What no attack broke is broken by ours only with evidence; there is little room for that.
    assert ((e.verdict == BROKEN) & standing).mean() < 0.05
    assert e.bracket.attacked >= standing.mean() - 0.05


def test_most_of_the_first_points_are_certified(mnist):
    model, x, y = mnist
    e = ae.evaluate(model, x[:32], y[:32], ae.Linf("0.1"))
    assert (e.verdict == CERTIFIED).sum() >= 29
    assert e.bracket.open <= 2 / 32
