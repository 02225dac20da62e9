"""ONNX Runtime, where it is installed: what the field's own tool computes in float32.

The only file that imports `onnxruntime`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from aisec_eval.errors import CapabilityError

from .lowering.onnx_network import reason_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ONLY_FATAL = 4


class Runtime:
    """An ONNX network in ONNX Runtime on the CPU, one thread."""

    def __init__(
        self, data: bytes, name: str, shape: tuple[int, ...], dtype: str, where: str
    ) -> None:
        """Open a session.

        Args:
            data: the serialized network; it was admitted and lowered before.
            name: of the network's input.
            shape: of the input for one sample, batch axis included.
            dtype: of the input.
            where: what messages call the network.

        Raises:
            CapabilityError: onnxruntime is not installed, or does not take the network.
        """
        try:
            import onnxruntime
        except ImportError:
            raise CapabilityError("onnxruntime is not installed") from None
        self.version = f"onnxruntime {onnxruntime.__version__}"
        self._input, self._shape, self._dtype, self._where = name, shape, dtype, where
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _ONLY_FATAL
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        try:
            self._session: Any = onnxruntime.InferenceSession(
                data, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its exceptions have no common base
            raise self._refused(error) from None

    def __call__(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the outputs [outputs] for one input [*input_shape], rounded to the input's type.

        Raises:
            CapabilityError: ONNX Runtime fails on it.
        """
        feed = {self._input: np.ascontiguousarray(x.reshape(self._shape), dtype=self._dtype)}
        try:
            (output, *_) = self._session.run(None, feed)
        except Exception as error:  # its exceptions have no common base
            raise self._refused(error) from None
        return np.asarray(output, dtype=np.float64).reshape(-1)

    def _refused(self, error: Exception) -> CapabilityError:
        return CapabilityError(f"{self._where}: onnxruntime cannot run it: {reason_of(error)}")
