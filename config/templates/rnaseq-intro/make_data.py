"""Makes the synthetic data of this workshop; run it again and the same bytes come out.

    python make_data.py [FOLDER]

Counts are drawn from a negative binomial model, the model that RNA-seq tools assume: the mean of
a gene in a library is its base level x the library's depth x an effect of the preparation day
and, for the planted genes only, x an effect of the treatment. No organism was measured.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd

SEED = 20_240_229
GENES = 2500
PLANTED = 200
REPLICATES = 6  # libraries per condition, half of them prepared on each day
LEAST_PLANTED_LEVEL = 25  # mean count below which no gene is planted: too faint to be found

HEADER = "# Synthetic data, made by make_data.py for teaching: no organism was measured.\n"

README = f"""# The data of this workshop

**All of it is synthetic**: drawn from a random number generator by `make_data.py` (seed {SEED}),
which comes with the workshop. No organism was measured. Gene names that start with `SYN` name
nothing.

| file | holds |
|---|---|
| `counts.csv` | reads of {GENES} genes (rows) in {2 * REPLICATES} libraries (columns) |
| `samples.csv` | per library: its condition (`control`, `treated`) and the day it was prepared |
| `truth.csv` | the genes the treatment really changes. Lesson 3 opens it; not before! |

Lines that start with `#` are comments.
"""


def simulate() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Counts, samples and truth."""
    random = np.random.default_rng(SEED)
    genes = pd.Index([f"SYN{number:04d}" for number in range(1, GENES + 1)], name="gene")
    samples = pd.DataFrame(
        {
            "condition": ["control"] * REPLICATES + ["treated"] * REPLICATES,
            "prepared": (["monday"] * (REPLICATES // 2) + ["thursday"] * (REPLICATES // 2)) * 2,
        },
        index=pd.Index([f"lib{number:02d}" for number in range(1, 2 * REPLICATES + 1)], name="library"),
    )
    treated = (samples["condition"] == "treated").to_numpy()
    thursday = (samples["prepared"] == "thursday").to_numpy()

    level = np.exp(random.normal(4.3, 1.5, GENES))
    audible = np.flatnonzero(level > LEAST_PLANTED_LEVEL)
    planted = np.sort(random.choice(audible, PLANTED, replace=False))
    log2_change = np.zeros(GENES)
    sizes = np.minimum(1.0 + random.exponential(0.7, PLANTED), 3.5)
    log2_change[planted] = random.choice([-1, 1], PLANTED) * sizes
    day_effect = random.normal(0, 0.8, GENES)
    depth = np.exp(random.normal(0, 0.25, 2 * REPLICATES))
    dispersion = np.minimum((0.04 + 1 / level) * np.exp(random.normal(0, 0.3, GENES)), 1.0)

    mean = level[:, None] * depth * 2 ** (np.outer(log2_change, treated) + np.outer(day_effect, thursday))
    size = 1 / dispersion[:, None]
    counts = pd.DataFrame(random.negative_binomial(size, size / (size + mean)), index=genes, columns=samples.index)
    truth = pd.DataFrame({"log2_fold_change": log2_change[planted].round(3)}, index=genes[planted])
    return counts, samples, truth


def write(folder: Path) -> None:
    """Writes the data files into `folder`, which it creates."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in zip(("counts", "samples", "truth"), simulate(), strict=True):
        text = HEADER + table.to_csv(lineterminator="\n")
        (folder / f"{name}.csv").write_text(text, encoding="utf-8", newline="\n")
    (folder / "README.md").write_text(README, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "content" / "data")
