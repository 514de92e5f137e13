"""Makes the synthetic data of this workshop; run it again and the same bytes come out.

    python make_data.py [FOLDER]

A plate of yeast cultures that grow by a logistic curve, each well with its own small deviations,
and a stretch of DNA with a GC-rich island. Nothing was measured, nothing was sequenced.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd

SEED = 20_240_610
HEADER = "# Synthetic data, made by make_data.py for teaching: no culture was measured.\n"
HOURS = np.arange(0, 24.5, 0.5)
BLANK_OD = 0.045  # optical density of medium without cells
MEDIA = ("glucose", "galactose")

# growth rate (per hour) in glucose and in galactose, lag (hours) in each, highest density
STRAINS = {
    "wildtype": ((0.46, 0.31), (2.0, 4.5), 1.35),
    "gal-defect": ((0.45, 0.10), (2.0, 7.0), 1.32),
    "slow": ((0.37, 0.26), (2.8, 5.0), 1.10),
}

README = f"""# The data of this workshop

**All of it is synthetic**: drawn from a random number generator by `make_data.py` (seed {SEED}),
which comes with the workshop. No culture was measured, and the strains don't exist.

| file | holds |
|---|---|
| `plate.csv` | strain and medium in each of the 96 wells; `blank` is medium without cells |
| `readings.csv` | optical density (OD) of each well every half hour for 24 hours |
| `island.fasta` | 6,000 bases of made-up DNA with an island of high GC content |

Lines that start with `#` are comments (in FASTA, the name line says it).
"""


def plate(random: np.random.Generator) -> pd.DataFrame:
    """Which strain and medium each well holds, in random order over the plate."""
    wells = [f"{row}{column:02d}" for row in "ABCDEFGH" for column in range(1, 13)]
    contents = [(strain, medium) for strain in STRAINS for medium in MEDIA for _ in range(15)]
    contents += [("blank", medium) for medium in MEDIA for _ in range(3)]
    order = random.permutation(len(contents))
    table = pd.DataFrame([contents[index] for index in order], columns=["strain", "medium"])
    table.index = pd.Index(wells, name="well")
    return table


def readings(random: np.random.Generator, layout: pd.DataFrame) -> pd.DataFrame:
    """Optical density of each well over time; some readings are missing."""
    tables = []
    for well, strain, medium in layout.itertuples():
        density = np.full(len(HOURS), BLANK_OD)
        if strain != "blank":
            rates, lags, highest = STRAINS[strain]
            rate = rates[MEDIA.index(medium)] * random.normal(1, 0.05)
            lag = lags[MEDIA.index(medium)] * random.normal(1, 0.06)
            highest *= random.normal(1, 0.03)
            middle = lag + np.log(highest / 0.02 - 1) / rate
            density = density + highest / (1 + np.exp(-rate * (HOURS - middle)))
        noisy = density * random.normal(1, 0.012, len(HOURS)) + random.normal(0, 0.004, len(HOURS))
        noisy[random.random(len(HOURS)) < 0.01] = np.nan  # the reader skipped the well
        tables.append(pd.DataFrame({"well": well, "hours": HOURS, "od": noisy.round(3)}))
    return pd.concat(tables, ignore_index=True)


def island(random: np.random.Generator) -> str:
    """A FASTA record: DNA of 38 % GC with an island of 62 % from base 2,500 to 3,700."""
    gc = np.full(6000, 0.38)
    gc[2500:3700] = 0.62
    strong = random.random(6000) < gc
    bases = np.where(strong, random.choice(list("GC"), 6000), random.choice(list("AT"), 6000))
    text = "".join(bases)
    lines = [text[start : start + 60] for start in range(0, len(text), 60)]
    return "\n".join([">island synthetic, made by make_data.py for teaching", *lines]) + "\n"


def write(folder: Path) -> None:
    """Writes the data files into `folder`, which it creates."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(SEED)
    layout = plate(random)
    texts = {
        "plate.csv": HEADER + layout.to_csv(lineterminator="\n"),
        "readings.csv": HEADER + readings(random, layout).to_csv(index=False, lineterminator="\n"),
        "island.fasta": island(random),
        "README.md": README,
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "content" / "data")
