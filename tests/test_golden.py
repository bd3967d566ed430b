"""The verdicts that need no training, pinned: whatever is restructured, the paper's own numbers are
judged as before.

`KDIG_FACTS=outputs/demo/facts pytest tests/test_golden.py` compares a run's facts as well. After a
change that is wanted, `python tests/test_golden.py [facts folder]` writes `golden/verdicts.csv`
anew, and its diff shows what has changed.
"""

import os
import sys
from pathlib import Path

import pandas as pd
import pytest

from kdig.paper import ALWAYS_DECIDED, claims, decide
from kdig.study.outputs import Outputs

pytestmark = pytest.mark.pins
HERE = Path(__file__).parent
GOLDEN = HERE / "golden" / "verdicts.csv"
REFERENCE = HERE.parent / "outputs" / "reference" / "lite" / "facts"
FOLDERS = [REFERENCE, *(Path(path) for path in [os.environ.get("KDIG_FACTS")] if path)]
# relative: six digits are written, so up to half a unit of the sixth, and a little for sums in
# another order
TOLERANCE = 6e-6


def verdicts(folder: Path) -> pd.DataFrame:
    """`id`, `verdict`, `value` of every claim that needs no training, from the facts in `folder`."""
    table = claims()
    wanted = table[table.kind.isin(ALWAYS_DECIDED)]
    decided = decide(wanted, Outputs(folder.parent).all_facts())
    return decided.rename(columns={"value": "claimed", "ours": "value"})[
        ["id", "verdict", "value"]
    ].reset_index(drop=True)


def golden() -> pd.DataFrame:
    return pd.read_csv(GOLDEN)


@pytest.mark.parametrize("folder", FOLDERS, ids=["reference", "KDIG_FACTS"][: len(FOLDERS)])
def test_verdicts_that_need_no_training_are_the_golden_ones(folder):
    found, wanted = verdicts(folder), golden()
    assert found.id.tolist() == wanted.id.tolist(), f"the claims have changed: {HINT}"
    open_ones = found[found.verdict == "not run"]
    assert open_ones.empty, f"no fact decides {', '.join(open_ones.id)}"
    changed = found[found.verdict != wanted.verdict]
    assert changed.empty, f"other verdicts than {GOLDEN.name}; {HINT}\n{changed.to_string()}"
    moved = found[(found.value - wanted.value).abs() > TOLERANCE * wanted.value.abs() + 1e-12]
    assert moved.empty, f"other values than {GOLDEN.name}; {HINT}\n{moved.to_string()}"


def test_golden_verdicts_are_of_every_kind():
    """A file that had lost half of them, or held one verdict only, would guard nothing."""
    counts = golden().verdict.value_counts()
    assert counts.sum() > 450
    assert counts["checks out"] > 300
    assert counts.min() >= 9
    assert set(counts.index) == WITHOUT_RUNS


WITHOUT_RUNS = {
    "supported",
    "checks out",
    "selected",
    "undecided",
    "text and code differ",
    "inconsistent",
    "contradicted",
}


HINT = "if that is wanted, run `python tests/test_golden.py` and let the diff be read"

if __name__ == "__main__":
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else REFERENCE
    verdicts(source).to_csv(GOLDEN, index=False, float_format="%.6g")
