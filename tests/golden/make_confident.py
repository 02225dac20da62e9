"""Writes `confident.json`: masks of cleanlab on drawn probabilities.

Run from the root where cleanlab 2.9 is installed: `python tests/golden/make_confident.py`. Cases
whose answer depends on how this machine's numpy sorts equal numbers are left out.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from helpers.label_noise import FILTERS, draw

HERE = Path(__file__).with_name("confident.json")
PLAIN = "X86_V3 X86_V4 AVX512_ICL AVX512_SPR"


def answers() -> list[dict[str, object]]:
    """Flagged rows of every case and filter, and the order of label qualities."""
    import cleanlab
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    found = []
    for seed in range(60):
        p, y = draw(seed)
        case: dict[str, object] = {"seed": seed, "cleanlab": cleanlab.__version__}
        for name in FILTERS:
            case[name] = find_label_issues(y, p, filter_by=name, n_jobs=1).nonzero()[0].tolist()
        for name in ("self_confidence", "normalized_margin", "confidence_weighted_entropy"):
            scores = get_label_quality_scores(y, p, method=name)
            case[name] = [float(f"{s:.6g}") for s in scores[:20]]
        found.append(case)
    return found


def main() -> None:
    """Ask twice, with and without the processor's vector sort."""
    if sys.argv[1:]:
        print(json.dumps(answers()))
        return
    environment = os.environ | {"NPY_DISABLE_CPU_FEATURES": PLAIN, "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, __file__, "answers"]
    plain = json.loads(
        subprocess.run(command, env=environment, capture_output=True, check=True).stdout
    )
    kept = [case for case, other in zip(answers(), plain, strict=True) if case == other]
    HERE.write_text(json.dumps(kept, separators=(",", ":")) + "\n")
    print(f"{len(kept)} of {len(plain)} cases")


if __name__ == "__main__":
    main()
