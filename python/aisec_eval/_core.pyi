from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__version__: str

def set_threads(threads: int) -> None: ...
def get_threads() -> int: ...
def random_signed(
    seed: int, attack: str, restart: int, step: int, samples: NDArray[np.int64], count: int
) -> NDArray[np.float32]: ...
def random_normal(
    seed: int, attack: str, restart: int, step: int, samples: NDArray[np.int64], count: int
) -> NDArray[np.float32]: ...
