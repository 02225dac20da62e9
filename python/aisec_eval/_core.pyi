from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__version__: str

def set_threads(threads: int) -> None: ...
def get_threads() -> int: ...
