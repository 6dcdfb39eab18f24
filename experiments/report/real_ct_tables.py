"""The committed results on real CT, read anew: the tables of docs/method.md.

The rows are those of 2026-11-24 and, where it is said, of 2026-11-23 (docs/LOG.md): 24 test patients and three training
runs of each method, six of a few.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from pixelglobal.tables.averages import ScoreTable, score_table
from pixelglobal.tables.contrasts import contrasts_of_checkpoints, contrasts_of_methods
from pixelglobal.tables.families import ALPHA, with_families
from pixelglobal.tables.metric import metric_of
from pixelglobal.tables.owed_scores import owed_scores
from pixelglobal.tables.rows import complete_rows

RESULTS = Path(__file__).resolve().parents[1] / "results"
EARLIER = RESULTS / "2026-11-23_comparison_openkbp_small.csv"
FOLDER = RESULTS / "2026-11-24_openkbp64"
MAIN, *LONGER = [
    FOLDER / f"4_patients_2400_steps{pretraining}.csv"
    for pretraining in ("", "_4500_pretraining_steps", "_gp_4500_pretraining_steps")
]
ENCODER_ALONE = FOLDER / "4_patients_2400_steps_encoder_only.csv"
FULL, FULL_LONGER, GP_LONGER = "full_hinge", "full_hinge_4500_pretraining_steps", "gp_4500_pretraining_steps"
SHARED_SEEDS = (0, 1, 2)  # the training runs that every method has


def gains_over_random() -> str:
    """Every method against random initialisation, 4 labelled patients: both averages, as claims about methods."""
    rows = rows_of(MAIN, *LONGER)
    methods = [method for method in dict.fromkeys(rows["method"]) if method != "random"]
    head = ["", "mean DSC (%)", "gain", "p", "adjusted p", "gain, patients' own means", "p", "adjusted p"]
    readings = [_scores(rows, ["random", *methods]), _scores(_own_means(rows), ["random", *methods])]
    lines = [["random", f"{readings[0].mean('random', None):.1f}", *[""] * 6]]
    gains = [_gains(table, "random", of_reference=False) for table in readings]
    for method in methods:
        lines.append([_words(method), f"{readings[0].mean(method, None):.1f}", *gains[0][method], *gains[1][method]])
    return _markdown(head, lines)


def contrasts_of_interest() -> str:
    """A few contrasts, with the error of all 13 methods and with that of the two methods alone."""
    longer, six = rows_of(MAIN, *LONGER), rows_of(MAIN, ENCODER_ALONE, seeds=range(6))
    asked = [(longer, FULL_LONGER, "random"), (longer, FULL_LONGER, GP_LONGER), (longer, FULL_LONGER, FULL),
             (six, FULL, "random"), (six, f"{FULL}_encoder_only", FULL)]  # fmt: skip
    head = ["", "average", "runs", "gain", "p, all methods", "adjusted p", "gain, the two alone", "p, the two alone"]
    lines = []
    for rows, method, baseline in asked:
        for average, scores in (("of the tables", rows), ("patients' own means", _own_means(rows))):
            pair = _scores(scores[scores["method"].isin((method, baseline))], [method, baseline])
            alone = _gains(pair, method)[baseline]
            pooled = ["", "", ""]
            if rows is longer:
                every = list(dict.fromkeys(rows["method"]))
                pooled = list(_gains(_scores(scores, every), method)[baseline])
            runs = len(pair.runs[method])
            lines.append([f"{_words(method)}, over {_words(baseline)}", average, str(runs), *pooled, *alone[:2]])
    return _markdown(head, lines)


def marks_by_claim() -> str:
    """How many contrasts of averages have a corrected p below 0.05, by what the claim is about."""
    head = ["rows of", "labelled patients", "fine-tuning steps", "reference", "contrasts", "checkpoints", "methods"]
    compared = [("2026-11-23", "8", "800", rows_of(EARLIER), "full")]
    for patients, steps in (("4", "800"), ("8", "800"), ("40", "800"), ("4", "2400"), ("8", "2400")):
        rows = rows_of(FOLDER / f"{patients}_patients_{steps}_steps.csv")
        compared += [("2026-11-24", patients, steps, rows, reference) for reference in ("random", FULL)]
    lines = []
    for *setting, rows, reference in compared:
        table = _scores(rows, list(dict.fromkeys(rows["method"])))
        others = [method for method in table.values if method != reference]
        of_checkpoints = contrasts_of_checkpoints(
            table, reference, unit="patient", test="sign_flip", n_resamples=100, seed=0, averages_only=True
        )
        marks = [_marks(tests, others) for tests in (of_checkpoints, _of_methods(table, reference))]
        lines.append([*setting, _words(reference), str(len(others)), *marks])
    return _markdown(head, lines)


def rows_of(*files: Path, seeds: Iterable[int] = SHARED_SEEDS) -> pd.DataFrame:
    """The rows of several files, of some of the training runs."""
    rows = pd.concat([pd.read_csv(file) for file in files], ignore_index=True)
    return complete_rows(rows[rows["seed"].isin(list(seeds))])


def _own_means(rows: pd.DataFrame) -> pd.DataFrame:
    """Each patient's mean over the structures that this patient has, as if it were one structure."""
    means = rows[rows["contoured"]].groupby(["method", "seed", "case"], sort=False)["dice"].mean().reset_index()
    return complete_rows(means.assign(structure="mean"))


def _scores(rows: pd.DataFrame, methods: Sequence[str]) -> ScoreTable:
    structures = list(dict.fromkeys(rows["structure"]))
    return score_table(owed_scores(rows, methods, with_slices=False).volumes, metric_of("dice"), methods, structures)


def _of_methods(table: ScoreTable, reference: str) -> list[dict[str, object]]:
    return contrasts_of_methods(table, reference, averages_only=True)


def _gains(table: ScoreTable, reference: str, *, of_reference: bool = True) -> dict[str, tuple[str, str, str]]:
    """{other method: gain with its 95 % interval, p, adjusted p}; the gain of the reference, or else of the other."""
    tests = pd.DataFrame(_of_methods(table, reference))
    corrected = with_families(tests, [method for method in table.values if method != reference])["corrected_p"]
    gains = {}
    for test, adjusted in zip(tests.itertuples(), corrected, strict=True):
        ends = (test.difference, test.low, test.high) if of_reference else (-test.difference, -test.high, -test.low)
        gains[str(test.method)] = ("{:+.2f} [{:+.2f}, {:+.2f}]".format(*ends), f"{test.p_value:.3f}", f"{adjusted:.3f}")
    return gains


def _marks(tests: list[dict[str, object]], others: Sequence[str]) -> str:
    """How many are marked, and how many of these are gains of the reference."""
    tested = with_families(pd.DataFrame(tests), others)
    marked = tested[tested["corrected_p"] < ALPHA]
    return f"{len(marked)} ({(marked['difference'] > 0).sum()} gains)" if len(marked) else "0"


def _words(method: str) -> str:
    """A method as the documents name it, such as `full, hinge, 4500 steps`."""
    words = method.replace("4500_pretraining_steps", "4500 steps").replace("encoder_only", "encoder alone")
    name, *more = words.split("_")
    return ", ".join([name if name in ("full", "random") else name.upper(), *more])


def _markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *lines)) + "\n"
