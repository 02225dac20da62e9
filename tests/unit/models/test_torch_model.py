"""torch modules: their own gradients, on arrays they share; where torch is installed."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import aisec_eval as ae
from aisec_eval.errors import CapabilityError, InputError, ModelImportError
from aisec_eval.models import load_model

torch = pytest.importorskip("torch")
nn = torch.nn


def cnn(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(36, 3),
    )


def images(n: int = 5, seed: int = 0) -> Any:
    return np.random.default_rng(seed).random((n, 1, 8, 8), dtype=np.float32)


class Function(nn.Module):  # type: ignore[misc]
    """A module from a function of tensors."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Any) -> Any:
        return self.function(x)


def test_logits_and_gradient_are_torchs_own() -> None:
    module = cnn().eval()
    model = load_model(module, input_shape=(1, 8, 8))
    x = images()
    inputs = torch.tensor(x, requires_grad=True)
    expected = module(inputs)
    weights = np.random.default_rng(1).normal(size=(5, 3)).astype(np.float32)
    expected.backward(torch.tensor(weights))
    np.testing.assert_array_equal(model.logits(x), expected.detach().numpy())
    seen = []
    logits, gradient = model.value_and_vjp(x, lambda z: seen.append(z.copy()) or weights)
    np.testing.assert_array_equal(logits, expected.detach().numpy())
    np.testing.assert_array_equal(gradient, inputs.grad.numpy())
    np.testing.assert_array_equal(seen[0], logits)
    assert len(seen) == 1
    assert model.num_classes == 3
    assert model.capabilities.gradient
    assert model.graph is None
    assert model.jax_function() is None
    assert model.logits(x[:0]).shape == (0, 3)
    np.testing.assert_allclose(model.logits(images(600))[:5], model.logits(x), rtol=1e-5)


def test_the_gradient_matches_finite_differences() -> None:
    model = load_model(nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)), input_shape=(4,))
    x = np.random.default_rng(0).random((3, 4), dtype=np.float32)
    # A cotangent that depends on the logits: the gradient of |z|^2 / 2.
    _, gradient = model.value_and_vjp(x, lambda z: z)

    def value(v: Any) -> Any:
        return (model.logits(v.astype(np.float32)).astype(np.float64) ** 2).sum(1) / 2

    for i in range(4):
        step = np.zeros(4, np.float32)
        step[i] = 1e-2
        slope = (value(x + step) - value(x - step)) / 2e-2
        np.testing.assert_allclose(gradient[:, i], slope, rtol=1e-2, atol=1e-3)


def test_the_module_itself_is_left_alone() -> None:
    module = cnn().train()
    before = copy.deepcopy(module.state_dict())
    model = load_model(module, input_shape=(1, 8, 8))
    first = model.logits(images())
    model.value_and_vjp(images(), lambda z: z)
    assert all(m.training for m in module.modules())
    assert all(p.requires_grad and p.grad is None for p in module.parameters())
    for key, value in module.state_dict().items():
        assert torch.equal(value, before[key])
    assert any("training mode" in line for line in model.report.warnings)
    with torch.no_grad():
        module[0].weight.add_(1)
    np.testing.assert_array_equal(model.logits(images()), first)
    assert model.capabilities.deterministic


def test_callers_arrays_are_shared_and_never_written() -> None:
    pointers = []

    def identity(x: Any) -> Any:
        pointers.append(x.data_ptr())
        return x

    model = load_model(Function(identity), input_shape=(4,))
    x = np.random.default_rng(0).random((3, 4), dtype=np.float32)
    assert not np.shares_memory(model.logits(x), x)
    assert pointers[-1] == x.ctypes.data
    logits, _ = model.value_and_vjp(x, lambda z: z)
    assert pointers[-1] == x.ctypes.data
    assert not np.shares_memory(logits, x)

    for function in (lambda x: x.mul_(2), lambda x: x.clamp_(-1e9, 1e9), nn.ReLU(inplace=True)):
        writer = load_model(Function(function), input_shape=(4,))
        z = x - 0.5
        kept = z.copy()
        expected = function(torch.tensor(z)).numpy()
        z.flags.writeable = False
        np.testing.assert_array_equal(writer.logits(z), expected)
        logits, gradient = writer.value_and_vjp(z, lambda v: v)
        np.testing.assert_array_equal(logits, expected)
        assert np.isfinite(gradient).all()
        np.testing.assert_array_equal(z, kept)


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_other_precisions(dtype: str) -> None:
    module = cnn().eval()
    expected = module(torch.tensor(images())).detach().numpy()
    model = load_model(module.to(getattr(torch, dtype)), input_shape=(1, 8, 8))
    logits, gradient = model.value_and_vjp(images(), np.ones_like)
    assert logits.dtype == gradient.dtype == np.float32
    np.testing.assert_allclose(logits, expected, atol=1e-6 if dtype == "float64" else 0.05)


def test_attacks_run_on_its_own_gradients() -> None:
    model = load_model(cnn().eval(), input_shape=(1, 8, 8))
    x = images(12)
    y = model.labels(x)
    result = ae.attack(model, x, y, ae.Linf(0.3), method=[ae.attacks.APGD(steps=20)])
    broken = np.asarray(result.verdict) == ae.VERDICTS.index("broken")
    assert broken.sum() >= 6
    assert (model.labels(result.x_adv[broken]) != y[broken]).all()
    assert result.spent.gradients.sum() > 0
    again = ae.attack(model, x, y, ae.Linf(0.3), method=[ae.attacks.APGD(steps=20)])
    np.testing.assert_array_equal(again.x_adv, result.x_adv)


def test_no_gradient_is_noticed() -> None:
    def decided(x: Any) -> Any:
        return nn.functional.one_hot(x.argmax(1), 3).float()

    for function in (decided, lambda x: x.detach(), lambda x: torch.zeros_like(x)):
        model = load_model(Function(function), input_shape=(3,))
        assert not model.capabilities.gradient
        assert any("no gradient" in line for line in model.report.warnings)
        with pytest.raises(CapabilityError, match="no gradient"):
            model.value_and_vjp(np.zeros((1, 3), np.float32), lambda z: z)


def test_checks_on_load() -> None:
    noisy = load_model(Function(lambda x: x + torch.randn_like(x)), input_shape=(3,))
    assert not noisy.capabilities.deterministic
    mixed = load_model(Function(lambda x: x - x.mean(0)), input_shape=(3,))
    assert any("rest of its batch" in line for line in mixed.report.warnings)
    soft = load_model(Function(lambda x: x.softmax(1)), input_shape=(3,))
    assert any("softmax" in line for line in soft.report.warnings)
    assert load_model(cnn(), input_shape=(1, 8, 8)).digest == (
        load_model(cnn(), input_shape=(1, 8, 8)).digest
    )
    assert load_model(cnn(0), input_shape=(1, 8, 8)).digest != (
        load_model(cnn(1), input_shape=(1, 8, 8)).digest
    )


def test_refusals_are_one_line() -> None:
    uncopied = nn.Linear(4, 3)
    uncopied.extra = torch.ones(3, requires_grad=True) * 2
    for source, options, kind, message in (
        (cnn(), {}, InputError, "input_shape"),
        (cnn(), {"input_shape": (3, 8, 8)}, ModelImportError, "fails on an input"),
        (Function(lambda x: (x, x)), {"input_shape": (3,)}, ModelImportError, "returns a tuple"),
        (Function(lambda x: x.sum()), {"input_shape": (3,)}, ModelImportError, "expected"),
        (Function(lambda x: x.argmax(1)), {"input_shape": (3,)}, ModelImportError, "expected"),
        (Function(lambda x: x.int()), {"input_shape": (3,)}, ModelImportError, "expected"),
        (uncopied, {"input_shape": (4,)}, ModelImportError, "deepcopy"),
        (torch.zeros(3), {"input_shape": (3,)}, ModelImportError, r"torch\.nn\.Module"),
    ):
        with pytest.raises(kind, match=message) as caught:
            load_model(source, **options)
        assert "\n" not in str(caught.value)
