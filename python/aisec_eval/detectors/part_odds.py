"""Log-odds of the second part of a class, sample by sample, from one projection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .class_space import ClassSpace
    from .mixture import Mixture

CERTAIN = 30.0
"""Log-odds stay within this."""


@dataclass(frozen=True, eq=False)
class Scorer:
    """Log-odds from one projection of a sample; each one the same in any batch."""

    basis: NDArray[np.float64]
    """[d, w]; of a mixture, whitened for the first part and then for the second one."""
    offset: NDArray[np.float64]
    half: int
    """Columns of the first part; 0 where there is no mixture."""
    constant: float = 0.0
    sign: float = 1.0

    @staticmethod
    def of(
        space: ClassSpace,
        mixture: Mixture | None,
        basis: NDArray[np.float64],
        sign: float,
    ) -> Scorer:
        """Scorer of a class, of a mixture on a basis within its space, or of no mixture."""
        if mixture is None:
            width = space.projection.shape[1]
            return Scorer(space.projection, np.zeros(width), 0)
        roots = [np.linalg.cholesky(covariance) for covariance in mixture.covariance]
        to_basis = space.projection @ basis
        constants = [
            float(np.log(mixture.weight[i]) - np.log(np.diag(root)).sum())
            for i, root in enumerate(roots)
        ]
        return Scorer(
            np.concatenate([np.linalg.solve(root, to_basis.T).T for root in roots], axis=1),
            np.concatenate(
                [np.linalg.solve(root, mixture.mean[i]) for i, root in enumerate(roots)]
            ),
            len(roots[0]),
            constants[0] - constants[1],
            sign,
        )

    def padded(self, width: int) -> NDArray[np.float64]:
        """Return the basis with columns of zeros [d, width]."""
        return np.pad(self.basis, ((0, 0), (0, width - self.basis.shape[1])))

    def odds(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        """Log-odds of samples projected on `basis` [n, >= w]."""
        # Column by column: a sum over rows could depend on how many there are.
        squares = [np.zeros(len(u)), np.zeros(len(u))]
        for j, offset in enumerate(self.offset.tolist()):
            squares[j >= self.half] += (u[:, j] - offset) ** 2
        if self.half:
            odds = self.sign * (self.constant - 0.5 * squares[0] + 0.5 * squares[1])
        else:
            # No second part was found: how far out, as far less than any alarm.
            odds = np.log1p(squares[1] / len(self.offset)) - CERTAIN
        return bounded(odds)


def bounded(odds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keep odds between -30 and 30, in the same order."""
    share = np.abs(odds) / CERTAIN
    inside: NDArray[np.float64] = odds / np.cbrt(1 + share * share * share)
    return inside
