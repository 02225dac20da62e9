"""Writes `plane_moves.json`: shortest moves to planes in the unit box, by linear and quadratic
programs. Run from the root: `python tests/golden/make_plane_moves.py`.
"""

from __future__ import annotations

import json

import numpy as np
from test_projections_solver import PLANES, shortest_move


def main() -> None:
    """Draw cases with walls in the way, and solve them."""
    cases = []
    for seed in range(24):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(3, 14))
        x = rng.random(n).astype(np.float32).astype(np.float64)
        x[rng.random(n) < 0.3] = 1
        w = rng.normal(size=n).astype(np.float32).astype(np.float64)
        # The most that the box allows, in either direction.
        sign = -1 if seed % 2 else 1
        most = np.where(sign * w > 0, x, 1 - x) @ np.abs(w)
        gap = float(sign * rng.uniform(0.1, 0.95) * most)
        for norm in ("linf", "l2", "l1"):
            length = shortest_move(x, w, gap, norm)
            cases.append(
                {"norm": norm, "x": [*x], "normal": [*w], "gap": gap, "length": round(length, 9)}
            )
    PLANES.write_text(json.dumps(cases, indent=None, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
