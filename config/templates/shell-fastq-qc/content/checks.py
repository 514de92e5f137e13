"""Checks for the exercises of this workshop. Reading on spoils them: try first!"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.testing import assert_frame_equal, assert_series_equal

__all__ = ["check"]

DATA = Path(__file__).parent / "data"


def _sheet() -> pd.DataFrame:
    return pd.read_csv(DATA / "samples.tsv", sep="\t", comment="#")


def _bases(library: str) -> list[str]:
    with gzip.open(DATA / f"{library}.fastq.gz", "rt") as lines:
        return [line.strip() for number, line in enumerate(lines) if number % 4 == 1]


def _tissues() -> str:
    counted = _sheet()["tissue"].value_counts()
    return " ".join(f"{number} {tissue}" for tissue, number in counted.items())


def _reads_of_both() -> str:
    return f"leaf {len(_bases('leaf'))} root {len(_bases('root'))}"


def _gc_per_cent() -> str:
    joined = "".join(_bases("root"))
    return f"{100 * (joined.count('G') + joined.count('C')) / len(joined):.1f}"


def _decode(quality: str) -> list[int]:
    return [ord(character) - 33 for character in quality]


def _gc_share(bases: str) -> float:
    return (bases.count("G") + bases.count("C")) / len(bases)


def _keep_length(scores: list[int]) -> int:
    length = len(scores)
    while length > 0 and scores[length - 1] < 20:
        length -= 1
    return length


EXERCISES = {
    "how many samples": (
        lambda: str(len(_sheet())),
        "two kinds of lines are not samples: the one with '#' and the one with the column names.",
    ),
    "samples per tissue": (
        _tissues,
        "the tissue is in column 2: cut, then sort, uniq -c, and sort -rn for the largest first.",
    ),
    "reads of both": (
        _reads_of_both,
        "in the loop, lines=$(gzip -dc data/$library.fastq.gz | wc -l), then $((lines / 4)).",
    ),
    "reads with N": (
        lambda: str(sum("N" in bases for bases in _bases("root"))),
        "first let awk print the bases only (NR % 4 == 2), then let grep count lines with an N.",
    ),
    "GC per cent": (
        _gc_per_cent,
        'in awk gsub(/[GC]/, "") answers how many it replaced; take length($0) before it.',
    ),
    "reads with adapter": (
        lambda: str(sum("AGATCGGA" in bases for bases in _bases("root"))),
        "as with N, but look for the first eight bases of the adapter.",
    ),
    "decode": (
        lambda: _decode,
        "ord(character) is the character's number; the score is 33 less. One score per character.",
    ),
    "error probability": (
        lambda: lambda score: 10 ** (-score / 10),
        "10 ** (-score / 10): Q10 is 1 in 10, Q20 is 1 in 100.",
    ),
    "GC share": (
        lambda: _gc_share,
        "bases.count('G') counts the Gs; divide G plus C by the length.",
    ),
    "keep length": (
        lambda: _keep_length,
        "start with length = len(scores); while the last kept score is below 20, take one off.",
    ),
}

PROBES: dict[str, list[tuple[Any, ...]]] = {
    "decode": [("!",), ("II5#",), ("ABCDEFGHI",)],
    "error probability": [(10,), (20,), (37,)],
    "GC share": [("GATTACA",), ("GGCC",), ("ATN",)],
    "keep length": [
        ([30, 30, 30],),
        ([30, 25, 10, 28, 12, 3],),
        ([20, 19],),
        ([2, 2],),
        ([],),
    ],
}


def check(exercise: str, given: Any, **material: Any) -> Any:
    """Says whether `given` solves `exercise`, and hands back a right answer either way.

    So the cells after an exercise work even if you aren't done with it. Never raises.
    """
    answer, hint = EXERCISES[exercise]
    right = answer(**material)
    if callable(right):
        solved = all(_same(_result(given, probe), right(*probe)) for probe in PROBES[exercise])
    else:
        solved = _same(given, right)
    if solved:
        print(f"✓ {exercise}: right!")
    else:
        print(f"○ {exercise}: not yet. Hint: {hint}")
    return right


def _result(function: Any, arguments: tuple[Any, ...]) -> Any:
    """What a learner's function answers; `...` if it fails."""
    try:
        return function(*arguments)
    except Exception:  # an unfinished function can fail in any way
        return ...


def _same(given: Any, right: Any) -> bool:
    """Whether the two are equal, numbers up to rounding."""
    if given is ...:
        return False
    try:
        if isinstance(right, str):
            return str(given).split() == right.split()
        if isinstance(right, pd.DataFrame):
            assert_frame_equal(given.sort_index(), right.sort_index(), check_like=True)
            return True
        if isinstance(right, pd.Series):
            assert_series_equal(given.sort_index(), right.sort_index(), check_names=False)
            return True
        if isinstance(right, (int, float, np.ndarray)):
            return np.shape(given) == np.shape(right) and bool(np.allclose(given, right))
        return bool(given == right)
    except Exception:  # an unfinished answer can be anything at all
        return False
