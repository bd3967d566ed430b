"""Answers to questions that the paper does not ask: a word for each interval, by rule."""

import pandas as pd

# the smallest difference of accuracies that matters (percentage points; `docs/evidence.md`)
MARGIN = 0.4
# half as many gradients at equal maps: what would be worth another scheme
TWICE = 2.0
# the questions of `11_...` and `12_...` that are no claim of a paper or poster: the table that answers
# each, how its facts' names begin, and the value that an answer is compared with
QUESTIONS = pd.DataFrame(
    [
        ("11_siblings", "alignment_siblings_", "as in 11", 0,
         "Likeness to siblings: with IG less without (KL is a distance)"),
        ("12_overlays", "beyond_", "points", 0, "What does an overlay change in accuracy?"),
        ("12_fly", "beyond_fly_", "levels of 255", 0,
         "What do so few steps on the fly change in an overlay's error?"),
        ("12_fly_trained", "beyond_", "points", 0, "What do maps on the fly change in accuracy?"),
        ("12_fewer", "beyond_steps_", "times", TWICE,
         "How many times fewer gradients are enough for equal overlays?"),
        ("12_surface_answers", "conditions_", "points", 0, "What do weak and strong overlays change?"),
        ("12_pairs", "conditions_", "points", 0,
         "Which signal of which teacher helps which student?"),
        ("12_patience", "conditions_", "points", 0,
         "Do targets of the very view, a longer schedule, and maps help?"),
        ("12_noise", "conditions_", "points", 0,
         "Does the best alpha move, where labels are wrong?"),
    ],
    columns=["item", "prefix", "unit", "against", "question"],
)  # fmt: skip
# what an interval says of a difference, by the margin of `docs/evidence.md`
MORE, LESS, EQUAL, OPEN = "more", "less", "equal within the margin", "undecided"


def word(low: float, high: float, margin: float = MARGIN) -> str:
    """`equal within the margin` where the interval lies inside of it; else `more` or `less` where it
    leaves out 0, and `undecided` where it does not.
    """
    if -margin < low and high < margin:
        return EQUAL
    return MORE if low > 0 else LESS if high < 0 else OPEN


def questions(facts: pd.DataFrame) -> pd.DataFrame:
    """Every answer to a question that the paper does not ask: `question`, what of it (`of`), `value`
    with its unit and 95 % interval, `n`, and `answer`.

    `answer` is `word` of the interval beside `against`: `more`, `less`, `undecided`, or,
    of points of accuracy, `equal within the margin`.
    """
    rows = facts.merge(QUESTIONS, on="item")
    margins = rows.unit.map({"points": MARGIN}).fillna(0.0)
    rows["of"] = [
        fact.removeprefix(prefix).replace("_", " ") for fact, prefix in zip(rows.fact, rows.prefix)
    ]
    rows["n"] = rows.n.astype("Int64")
    rows["answer"] = [
        word(low, high, margin)
        for low, high, margin in zip(rows.low - rows.against, rows.high - rows.against, margins)
    ]
    shown = ["question", "of", "value", "unit", "low", "high", "against", "n", "answer", "notebook"]
    return rows[shown]
