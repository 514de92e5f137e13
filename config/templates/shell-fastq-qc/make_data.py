"""Makes the synthetic data of this workshop; run it again and the same bytes come out.

    python make_data.py [FOLDER]

Reads are cut from a random genome, get an adapter where the fragment is shorter than the read,
and errors as often as their quality says. No organism was sequenced.
"""

from __future__ import annotations

import gzip
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SEED = 20_240_501
READS = 3000
READ_LENGTH = 100
BASES = np.frombuffer(b"ACGT", dtype=np.uint8)
ADAPTER = np.frombuffer(b"AGATCGGAAGAGCACACGTCTGAACTCCAGTCA", dtype=np.uint8)

SHEET_HEADER = "# Synthetic data, made by make_data.py for teaching: no organism was sequenced.\n"

README = f"""# The data of this workshop

**All of it is synthetic**: drawn from a random number generator by `make_data.py` (seed {SEED}),
which comes with the workshop. No organism was sequenced, no sample exists.

| file | holds |
|---|---|
| `leaf.fastq.gz` | {READS} reads of a library that went well |
| `root.fastq.gz` | {READS} reads of a library with troubles; finding out which is the workshop |
| `samples.tsv` | a sample sheet to practise on; lines that start with `#` are comments |

FASTQ has no place for comments, so every read's name starts with `SYNTHETIC`.
"""


@dataclass(frozen=True)
class Library:
    """How a library turned out."""

    name: str
    fragment_mean: float
    fragment_sd: float
    quality_start: float
    quality_end: float
    contaminated: float  # share of reads from the genome that doesn't belong here


LIBRARIES = [
    Library("leaf", 240, 40, 38, 34, 0.0),
    Library("root", 95, 30, 37, 18, 0.15),
]


def _genome(random: np.random.Generator, length: int, gc: float) -> np.ndarray:
    weights = [(1 - gc) / 2, gc / 2, gc / 2, (1 - gc) / 2]
    return random.choice(BASES, length, p=weights)


def _qualities(random: np.random.Generator, library: Library) -> np.ndarray:
    """One Phred score per base: falling along the read, neighbours alike, reads different."""
    along = np.linspace(0, 1, READ_LENGTH) ** 1.8
    drop = library.quality_start - library.quality_end
    mean = library.quality_start - drop * along * max(random.normal(1, 0.45), 0.1)
    noise = np.zeros(READ_LENGTH)
    for position in range(1, READ_LENGTH):
        noise[position] = 0.7 * noise[position - 1] + random.normal(0, 1.8)
    return np.clip(np.rint(mean + noise), 2, 40).astype(np.uint8)


def _read(random: np.random.Generator, library: Library, genomes: tuple[np.ndarray, np.ndarray]) -> tuple[bytes, bytes]:
    """Bases and quality characters of one read."""
    genome = genomes[int(random.random() < library.contaminated)]
    fragment = int(np.clip(random.normal(library.fragment_mean, library.fragment_sd), 15, 400))
    start = int(random.integers(0, len(genome) - fragment))
    filler = random.choice(BASES, READ_LENGTH)
    bases = np.concatenate([genome[start : start + fragment], ADAPTER, filler])[:READ_LENGTH]
    quality = _qualities(random, library)
    wrong = random.random(READ_LENGTH) < 10 ** (-quality.astype(float) / 10)
    bases = np.where(wrong, random.choice(BASES, READ_LENGTH), bases).astype(np.uint8)
    bases[quality <= 4] = ord("N")  # too poor to name a base
    return bases.tobytes(), (quality + 33).astype(np.uint8).tobytes()


def _fastq(random: np.random.Generator, library: Library, genomes: tuple[np.ndarray, np.ndarray]) -> bytes:
    lines = []
    for number in range(1, READS + 1):
        bases, quality = _read(random, library, genomes)
        name = f"@SYNTHETIC:{library.name}:{number:05d}".encode()
        lines += [name, bases, b"+", quality]
    return b"\n".join(lines) + b"\n"


def _sample_sheet(random: np.random.Generator) -> str:
    rows = ["sample\ttissue\tplate\tconcentration_ng_ul"]
    tissues = ["root"] * 11 + ["leaf"] * 8 + ["flower"] * 5
    for number, tissue in enumerate(random.permutation(tissues), start=1):
        concentration = random.gamma(6, 4)
        plate = "A" if number <= 12 else "B"
        rows.append(f"S{number:02d}\t{tissue}\t{plate}\t{concentration:.1f}")
    return SHEET_HEADER + "\n".join(rows) + "\n"


def write(folder: Path) -> None:
    """Writes the data files into `folder`, which it creates."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(SEED)
    genomes = (_genome(random, 30_000, 0.40), _genome(random, 30_000, 0.66))
    for library in LIBRARIES:
        text = _fastq(random, library, genomes)
        # Without name and time in its header, the compressed file is the same each time.
        (folder / f"{library.name}.fastq.gz").write_bytes(gzip.compress(text, 9, mtime=0))
    sheet = _sample_sheet(random)
    (folder / "samples.tsv").write_text(sheet, encoding="utf-8", newline="\n")
    (folder / "README.md").write_text(README, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "content" / "data")
