"""Windows over images: convolutions and pools."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .builder import NotLowerable, Value
from .emit_layout import LayoutEmitter

if TYPE_CHECKING:
    from collections.abc import Sequence


class WindowEmitter(LayoutEmitter):
    """Emits convolutions and pools over one or two spatial axes."""

    def conv(
        self,
        x: Value,
        weight: Any,
        bias: Any,
        *,
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        groups: int,
    ) -> Value:
        """Convolve [1, C, *space] with `weight` [O, C/groups, *kernel]; one or two space axes.

        `padding` is (top, left, bottom, right), or (left, right) for one axis.
        """
        weight = np.asarray(weight)
        space = len(x.shape) - 2
        if weight.ndim != len(x.shape):
            raise ValueError(f"weight {list(weight.shape)} does not fit input {list(x.shape)}")
        x, padding = self._image(x, padding)
        if space == 1:
            weight, stride, dilation = weight[:, :, None], (1, *stride), (1, *dilation)
        attrs = {
            "stride": [int(s) for s in stride],
            "padding": [int(p) for p in padding],
            "dilation": [int(d) for d in dilation],
            "groups": int(groups),
        }
        tensors = {"weight": weight, "bias": np.asarray(bias)}
        node = self._emit("conv2d", (self._view(x, x.shape[1:]),), attrs, tensors)
        return self._unimage(node, space)

    def pool(
        self,
        op: str,
        x: Value,
        kernel: Sequence[int],
        *,
        stride: Sequence[int] | None = None,
        padding: Sequence[int] | None = None,
        dilation: Sequence[int] | None = None,
        count_include_pad: bool = True,
    ) -> Value:
        """Apply `max_pool2d` or `avg_pool2d` to [1, C, *space]; one or two space axes."""
        space = len(x.shape) - 2
        stride, padding = stride or [1] * space, padding or [0] * (2 * space)
        dilation = dilation or [1] * space
        if not len(kernel) == len(stride) == len(dilation) == space:
            raise ValueError(f"window {list(kernel)} does not fit input {list(x.shape)}")
        x, padding = self._image(x, padding)
        if space == 1:
            kernel, stride, dilation = (1, *kernel), (1, *stride), (1, *dilation)
        attrs: dict[str, Any] = {
            "kernel": [int(k) for k in kernel],
            "stride": [int(s) for s in stride],
            "padding": [int(p) for p in padding],
        }
        if op == "max_pool2d":
            attrs["dilation"] = [int(d) for d in dilation]
        elif any(d != 1 for d in dilation):
            raise NotLowerable("average pooling with dilation")
        else:
            attrs["count_include_pad"] = bool(count_include_pad)
        return self._unimage(self._emit(op, (self._view(x, x.shape[1:]),), attrs), space)

    def _image(self, x: Value, padding: Sequence[int]) -> tuple[Value, Sequence[int]]:
        if len(x.shape) not in (3, 4):
            raise NotLowerable(f"windows over {len(x.shape) - 2} axes (one or two are supported)")
        if x.shape[0] != 1:
            raise NotLowerable(f"windows over a value of shape {list(x.shape)} for one sample")
        if len(padding) != 2 * (len(x.shape) - 2):
            raise ValueError(f"padding {list(padding)} does not fit input {list(x.shape)}")
        if len(x.shape) == 3:
            left, right = padding
            return self.reshape(x, (1, x.shape[1], 1, x.shape[2])), (0, left, 0, right)
        return x, padding

    def _unimage(self, node: int, space: int) -> Value:
        channels, height, width = self._nodes[node].shape
        return Value(node, (1, channels, height, width) if space == 2 else (1, channels, width))
