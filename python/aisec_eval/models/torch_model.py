"""A model from a torch module: its own autograd, arrays shared instead of copied on CPUs."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from aisec_eval.errors import CapabilityError, InputError, ModelImportError

from . import checks
from .base import Capabilities, LoadReport, Model, inputs_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_BATCH = 256
"""Samples one call of the module evaluates together."""


class TorchModel(Model):
    """A torch classifier on the device it was given on. Built by `load_torch`."""

    def __init__(self, module: Any, *, name: str, input_shape: tuple[int, ...]) -> None:
        import torch

        self._torch = torch
        self._module = module
        first = next(iter((*module.parameters(), *module.buffers())), None)
        numbers = (t for t in (*module.parameters(), *module.buffers()) if t.is_floating_point())
        number = next(numbers, None)
        self._device = torch.device("cpu") if first is None else first.device
        self._dtype = torch.float32 if number is None else number.dtype
        self._clone = True
        """Whether the module writes to its input; known after `load_torch` tried."""
        self.name = name
        self.digest = _digest(module)
        self.input_shape = input_shape
        self.num_classes = 0
        self.capabilities = Capabilities(gradient=True)
        self.report = LoadReport()

    def logits(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return logits [n, num_classes] for inputs [n, *input_shape].

        Raises:
            InputError: x does not have the model's shape.
        """
        x = inputs_of(self, x)
        parts = [np.zeros((0, self.num_classes), np.float32)]
        with self._torch.no_grad():
            for start in range(0, len(x), _BATCH):
                tensor = self._tensor(x[start : start + _BATCH])
                outputs = self._module(tensor.clone() if self._clone else tensor)
                # Copied: a module may return its input or a buffer.
                parts.append(_numpy(outputs).copy())
        return parts[1] if len(parts) == 2 else np.concatenate(parts)

    def value_and_vjp(
        self,
        x: NDArray[np.float32],
        cotangent: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return logits and the input gradient of `sum(logits * cotangent(logits))`.

        Runs the module once on all samples. x is shared with the module: it must not change
        before this returns.

        Args:
            x: inputs [n, *input_shape].
            cotangent: called once with the logits [n, num_classes], returns as many numbers.

        Returns:
            Logits [n, num_classes] and gradient [n, *input_shape].

        Raises:
            CapabilityError: no gradient reaches the input.
            InputError: x does not have the model's shape.
        """
        if not self.capabilities.gradient:
            raise CapabilityError(f"model {self.name!r}: no gradient reaches its input")
        x = inputs_of(self, x)
        torch = self._torch
        with torch.enable_grad():
            leaf = self._tensor(x).requires_grad_(True)
            outputs = self._module(leaf.clone() if self._clone else leaf)
        logits = _numpy(outputs).copy()
        pulled = np.ascontiguousarray(cotangent(logits), np.float32)
        weights = torch.from_numpy(pulled).to(outputs.device, outputs.dtype)
        (gradient,) = torch.autograd.grad(outputs, leaf, weights)
        return logits, _numpy(gradient)

    def _tensor(self, x: NDArray[np.float32]) -> Any:
        """Return x as a tensor, sharing its memory where device and type are its own."""
        tensor = self._torch.from_numpy(x if x.flags.writeable else x.copy())
        # Detached: a shared tensor of the caller must not become a leaf with a gradient.
        return tensor.to(self._device, self._dtype).detach()


def load_torch(source: Any, options: checks.Options) -> TorchModel | None:
    """Load a torch module, which maps inputs [n, *input_shape] to logits; None for other objects.

    The module itself is left alone: a copy is put in evaluation mode, on the same device.

    Raises:
        InputError: input_shape is missing.
        ModelImportError: it cannot be copied, fails on its input, or is not a classifier.
    """
    import torch

    if not isinstance(source, torch.nn.Module):
        return None
    name = options.name or type(source).__name__
    shape = options.input_shape
    if shape is None:
        raise InputError(
            f"{name}: give one sample's shape without the batch axis, e.g. input_shape=(3, 32, 32)"
        )
    devices = {str(t.device) for t in (*source.parameters(), *source.buffers())}
    if len(devices) > 1:
        raise ModelImportError(f"{name}: lies on several devices ({', '.join(sorted(devices))})")
    training = any(module.training for module in source.modules())
    try:
        module = copy.deepcopy(source).eval().requires_grad_(False)
    except (RuntimeError, TypeError, NotImplementedError) as error:
        raise ModelImportError(
            f"{name}: copy.deepcopy fails on it: {_line(error)}; pass a module that can be copied"
        ) from None
    model = TorchModel(module, name=name, input_shape=shape)
    x = checks.probes(options, shape)
    outputs, gradients = _try(model, x)
    model.num_classes = outputs.shape[1]
    found = ["the module was in training mode: a copy in evaluation mode is used"] * training
    found += checks.warnings(model.logits, x, outputs, options)
    if any("not deterministic" in line for line in found):
        model.capabilities = replace(model.capabilities, deterministic=False)
    elif any(checks.differs(a, b) for a, b in zip(model.logits(x[:1]), outputs[:1], strict=True)):
        found.append("a sample's outputs depend on the rest of its batch: verdicts do, too")
    if not gradients:
        model.capabilities = replace(model.capabilities, gradient=False)
        found.append("no gradient reaches the input: attacked by queries only")
    reason = "a torch module"
    found.append(
        f"not certifiable: {reason} has no graph; attacks through its own gradients still work; "
        'export it with torch.onnx.export(model, x, "model.onnx") to certify it'
    )
    model.report = LoadReport(tuple(found), reason)
    return model


def _try(model: TorchModel, x: NDArray[np.float32]) -> tuple[NDArray[np.float32], bool]:
    """Return the outputs on x and whether a gradient reaches it; see if the module writes to x.

    Raises:
        ModelImportError: it fails, or its output is not one logit a class.
    """
    torch = model._torch
    name = model.name
    try:
        with torch.no_grad():
            shared = model._tensor(x.copy())
            before, version = shared.clone(), shared._version
            outputs = model._module(shared)
        if not isinstance(outputs, torch.Tensor):
            raise ModelImportError(
                f"{name}: returns a {type(outputs).__name__}; wrap it so that it returns the logits"
            )
        expected = ", ".join(map(str, ("n", *model.input_shape)))
        if outputs.ndim != 2 or len(outputs) != len(x) or not outputs.is_floating_point():
            raise ModelImportError(
                f"{name}: maps [{expected}] to {list(outputs.shape)} {outputs.dtype} for n = "
                f"{len(x)}; expected [n, classes] floating-point logits"
            )
        # Counted by torch, and compared for code that writes past it.
        model._clone = shared._version != version or not torch.equal(shared, before)
        values = _numpy(outputs).copy()
        with torch.enable_grad():
            leaf = model._tensor(x.copy()).requires_grad_(True)
            differentiable = model._module(leaf.clone())
        if not differentiable.requires_grad:
            return values, False
        ones = torch.ones_like(differentiable)
        (gradient,) = torch.autograd.grad(differentiable, leaf, ones, allow_unused=True)
        return values, gradient is not None
    except (RuntimeError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ModelImportError(
            f"{name}: fails on an input of shape {[len(x), *model.input_shape]}: {_line(error)}"
        ) from None


def _numpy(tensor: Any) -> NDArray[np.float32]:
    """Return a tensor as float32; shares memory where it is on the CPU and float32 already."""
    array: NDArray[np.float32] = tensor.detach().float().cpu().contiguous().numpy()
    return array


def _digest(module: Any) -> str:
    """Return a hash of the structure, the parameters and the buffers."""
    import torch

    state = hashlib.sha256(f"{type(module).__module__}.{module!r}".encode())
    for key, value in module.state_dict(keep_vars=False).items():
        if not hasattr(value, "detach"):
            state.update(f"{key} {value!r}".encode())
            continue
        tensor = value.detach().cpu().contiguous()
        state.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
        # Viewed as bytes: numpy has no bfloat16.
        state.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return state.hexdigest()


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
