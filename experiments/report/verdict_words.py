"""A verdict in plain sentences with the names of methods in words, and a badge for each claim."""

from __future__ import annotations

from collections.abc import Mapping

from experiments.report.palette import method_words
from experiments.studies.study import Study
from experiments.studies.verdict import ContrastResult, Verdict
from pixelglobal.statistics.mrmc import FEWEST_RUNS

HEADS = {"reproduced": "Reproduced", "not reproduced": "Not reproduced", "undecided": "Undecided"}
KINDS = {"reproduced": "reproduced", "not reproduced": "not", "undecided": "undecided"}


def verdict_sentence(study: Study, verdict: Verdict, cohort: str = "") -> str:
    """What the rows of a cohort say: gains with intervals, patients, runs, and what a decision would need."""
    primary = [one for one in verdict.tested if one.contrast.primary]
    parts = [_gain(one) for one in primary if one.comparison is not None]
    parts += [f"{_pair(one)} {_few(one)}" for one in primary if one.comparison is None]
    missing = {
        "reproduced": "The claim is about the methods: another training and other patients would show it again",
        "not reproduced": f"A gain of {study.rule.smallest_gain_points:g} DSC points or more is ruled out",
        "undecided": _needs(study, verdict),
    }[verdict.state]
    where = f" on {cohort}" if cohort else ""
    said = "; ".join(parts)
    return f"{HEADS[verdict.state]}{where}: {said}. {missing}."


def badges(study: Study, verdicts: Mapping[str, Verdict], registered: str) -> list[tuple[str, str]]:
    """(kind, words) of each primary contrast on each cohort, and whether the study was done as registered."""
    made = []
    for cohort, verdict in verdicts.items():
        for one in (one for one in verdict.tested if one.contrast.primary):
            state = "reproduced" if study.rule.shows(one) else "undecided"
            state = "not reproduced" if study.rule.rules_out(one) else state
            where = f" on {cohort}" if len(verdicts) > 1 else ""
            made.append((KINDS[state], f"{_pair(one)}{where}: {state}"))
    as_registered = "not registered" if not registered else "as registered"
    if registered.startswith("Not"):
        as_registered = "not done as registered"
    return [*made, ("not" if registered.startswith("Not") else "", as_registered)]


def _pair(one: ContrastResult) -> str:
    return f"{method_words(one.contrast.method)} over {_lower(method_words(one.contrast.baseline))}"


def _lower(words: str) -> str:
    """Words inside a sentence; names such as GL or SimCLR stay as they are."""
    return words[0].lower() + words[1:] if words.startswith(("Random", "With", "Global")) else words


def _gain(one: ContrastResult) -> str:
    c = one.comparison
    assert c is not None
    p = "p < 0.001" if one.corrected_p < 0.001 else f"p = {one.corrected_p:.3f}"
    verb, points = ("gains", c.difference) if c.difference >= 0 else ("loses", -c.difference)
    against = "over" if c.difference >= 0 else "against"
    return (
        f"{method_words(one.contrast.method)} {verb} {points:.2f} DSC points {against} "
        f"{_lower(method_words(one.contrast.baseline))} (95 % interval of the gain {c.low:+.2f} to {c.high:+.2f}, "
        f"corrected {p}; {one.runs.replace('runs', 'training runs', 1)}, {c.n_patients} test patients)"
    )


def _few(one: ContrastResult) -> str:
    runs = f"{one.n_runs} training run{'s' * (one.n_runs != 1)} with the same seeds"
    return f"has {runs} and {one.n_patients} test patients, which is too few for a claim about methods"


def _needs(study: Study, verdict: Verdict) -> str:
    """What an undecided verdict needs; the rule's own words after its last colon."""
    primary = [one for one in verdict.tested if one.contrast.primary]
    still_open = [one for one in primary if one.comparison is not None and not study.rule.shows(one)]
    if still_open and all(one.comparison is not None for one in primary):
        what = study.rule.what_it_needs(still_open)
        return (
            f"A gain is not shown, and one of {study.rule.smallest_gain_points:g} DSC points or more is not ruled out; "
            f"a decision {what}"
        )
    few = [f"{FEWEST_RUNS} training runs of each method"] * any(one.n_runs < FEWEST_RUNS for one in primary)
    few += ["2 test patients"] * any(one.n_patients < 2 for one in primary)
    return f"A decision needs at least {' and '.join(few)}"
