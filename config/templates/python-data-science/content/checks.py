"""Checks for the exercises of this workshop. Reading on spoils them: try first!"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
from pandas.testing import assert_frame_equal, assert_series_equal

__all__ = ["check"]


def _gc_share(bases: str) -> float:
    return (bases.count("G") + bases.count("C")) / len(bases)


def _reverse_complement(bases: str) -> str:
    return bases[::-1].translate(str.maketrans("ACGT", "TGCA"))


def _count_words(bases: str, length: int) -> dict[str, int]:
    return dict(Counter(bases[at : at + length] for at in range(len(bases) - length + 1)))


def _growth(table: pd.DataFrame, blank: float) -> pd.DataFrame:
    cultures = table[table["strain"] != "blank"].dropna(subset=["od"])
    return cultures.assign(growth=cultures["od"] - blank)


def _final(growth: pd.DataFrame) -> pd.Series:
    late = growth[growth["hours"] >= 23]
    return late.groupby(["strain", "medium"])["growth"].mean()


def _p_value(observed: float, shuffled: np.ndarray) -> float:
    return float(np.mean(np.abs(shuffled) >= abs(observed)))


EXERCISES = {
    "GC share": (
        lambda: _gc_share,
        "bases.count('G') counts the Gs; divide G plus C by len(bases).",
    ),
    "reverse complement": (
        lambda: _reverse_complement,
        "go through reversed(bases), look each base up in PARTNER, and ''.join the partners.",
    ),
    "count words": (
        lambda: _count_words,
        "the word at position `at` is bases[at : at + length]; the last one begins at len(bases) - length.",
    ),
    "missing readings": (
        lambda readings: int(readings["od"].isna().sum()),
        "readings['od'].isna() is True where a reading is missing; sum() counts the True.",
    ),
    "blank": (
        lambda table: float(table.loc[table["strain"] == "blank", "od"].mean()),
        "pick the rows whose strain is 'blank', then the mean of their 'od'.",
    ),
    "growth": (
        _growth,
        "drop the blanks (!=), then the missing (dropna(subset=['od'])), then add the column.",
    ),
    "final growth": (
        _final,
        "select hours >= 23, then groupby(['strain', 'medium'])['growth'].mean().",
    ),
    "plate table": (
        lambda last: last.pivot(index="row", columns="column", values="od"),
        "last.pivot(index=..., columns=..., values=...), with the names of three columns.",
    ),
    "median curve": (
        lambda growth: growth.groupby(["strain", "medium", "hours"])["growth"].median(),
        "as for final growth, with 'hours' as a third thing to group by, and median().",
    ),
    "doubling time": (
        lambda: lambda rate: np.log(2) / rate,
        "np.log(2) / rate: the time t in which exp(rate * t) becomes 2.",
    ),
    "p-value": (
        _p_value,
        "how often is np.abs(shuffled) >= abs(observed)? The mean of True and False is a share.",
    ),
}

PROBES: dict[str, list[tuple[Any, ...]]] = {
    "GC share": [("GATTACA",), ("GGCC",), ("AT",)],
    "reverse complement": [("GATTACA",), ("ACGT",), ("",)],
    "count words": [("GATTACA", 1), ("AAAA", 2), ("GATTACA", 7)],
    "doubling time": [(0.5,), (0.1,), (1.0,)],
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
