"""The table of a choice: the candidates, what the rule made of them, and how much of it is chance.

Frames hold one row per method and seed of one data set and backbone; shares become per cent and points.
"""

import pandas as pd

from smoot.workbench import choice
from smoot.workbench.choice import Chosen
from smoot.workbench.measures import Measure, Measures
from smoot.workbench.oracle import by_seed, check_measured
from smoot.workbench.statistics import REFERENCES, compare
from smoot.workbench.study import Choice
from smoot.workbench.tabulation import SPREAD, Row, head, summarised, table
from smoot.workbench.typesetting import Setting, Table, display_name, fixed, interval


def choice_table(frame: pd.DataFrame, rule: Choice, reference: str, known: Measures, about: Setting, end: str) -> Table:
    """The candidates and what the rule made of them.

    Args:
        frame: the metrics for each method and seed.
        rule: written before the runs.
        reference: what the chosen one's accuracy is compared with; it need not be a candidate.
        known: how each metric is shown.
        about: names the data set and backbone.
        end: of the caption.

    Raises:
        ValueError: if a run lacks a metric.
    """
    chosen = choice.choose(frame, rule)
    metrics = dict.fromkeys((rule.accuracy, *rule.faithfulness, *choice.on_all_images(rule).faithfulness))
    check_measured(frame, metrics)
    measures = {metric: known.get(metric, Measure(metric, "", 3)) for metric in metrics}
    rows: list[Row] = []
    for row in chosen.table.to_dict("records"):
        own = frame[frame["method"] == row["method"]]
        numbers, texts = summarised(own, measures)
        said = {
            "Accurate enough": "✓" if row["eligible"] else "✗",
            "Faithfulness score ↑": fixed(row["score"], sign=True),
            "Rank": fixed(row["rank"], 0),
            "Chosen in resamples (%)": fixed(100 * row["chosen_share"], 0),
            "Chosen in leave-one-out sets": str(row["left_out"]),
        }
        keys = {str(key): value for key, value in row.items() if key != "accuracy"}
        rows.append((keys | {"n": len(own)} | numbers, head({"method": row["method"]}) | texts | said))
    parts = (
        _rule(rule, measures),
        _winner(chosen),
        _other_winner(frame, rule, chosen, measures),
        _accuracy(frame, rule, chosen.name, reference, measures[rule.accuracy]),
        f"{SPREAD[0].upper()}{SPREAD[1:]}.",
        end,
    )
    caption = " ".join(part for part in parts if part)
    return table(f"choice_{about.place}", f"The choice, {about.name}", caption, rows)


def _rule(rule: Choice, measures: Measures) -> str:
    """The rule in words."""
    accuracy, measured = measures[rule.accuracy], [_small(measures[metric]) for metric in rule.faithfulness]
    margin = f"{fixed(accuracy.factor * rule.margin, accuracy.digits)} {_unit(accuracy)}".rstrip()
    return (
        f"The rule, written before the runs: of the candidates whose mean {_small(accuracy)} is at most {margin} below "
        "the best one's, the one with the highest faithfulness score, the mean of the seed means' z-scores over all "
        f"candidates in {'; '.join(measured)}."
    )


def _winner(chosen: Chosen) -> str:
    """Whom it chose, how often other seeds would have, and who came second."""
    rows = {row["method"]: row for row in chosen.table.to_dict("records")}
    own = rows[chosen.name]
    again = ", with one seed, which says nothing of other seeds"
    if chosen.seeds > 1:
        share = f"{fixed(100 * own['chosen_share'], 0)} % of {choice.RESAMPLES:,} resamples of the {chosen.seeds} seeds"
        again = f", in {share} and by {own['left_out']} of the {chosen.seeds} sets that leave one seed out"
    second = "no other candidate is accurate enough"
    if chosen.runner_up is not None:
        score = fixed(rows[chosen.runner_up]["score"], sign=True)
        second = f"runner-up: {display_name(chosen.runner_up)} (score {score})"
    return f"Chosen: {display_name(chosen.name)} (score {fixed(own['score'], sign=True)}){again}; {second}."


def _other_winner(frame: pd.DataFrame, rule: Choice, chosen: Chosen, measures: Measures) -> str:
    """Whether the judge's gap on all images would have chosen another; empty if the rule does not ask the judge."""
    other = choice.on_all_images(rule)
    if other == rule:
        return ""
    swapped = [_small(measures[metric]) for metric in other.faithfulness if metric not in rule.faithfulness]
    winner = choice.choose(frame, other).name
    verdict = "the winner would be the same" if winner == chosen.name else f"{display_name(winner)} would be chosen"
    return f"With {'; '.join(swapped)}, which does not decide, in place of the gap on right answers {verdict}."


def _accuracy(frame: pd.DataFrame, rule: Choice, chosen: str, reference: str, measure: Measure) -> str:
    """The accuracy of the references that are no candidates, and what the chosen one has over the reference."""
    beside = []
    for method in dict.fromkeys((reference, *REFERENCES)):
        own = frame[frame["method"] == method]
        if len(own) and method not in rule.candidates:
            _, texts = summarised(own, {rule.accuracy: measure})
            beside.append(f"{display_name(method)} {texts[measure.header]}")
    wide = measure.factor * by_seed(frame, rule.accuracy)
    gain = compare(wide[chosen].tolist(), wide[reference].tolist())
    said = f"{display_name(chosen)} minus {display_name(reference)}: "
    said += f"{interval(gain.difference, gain.low, gain.high, measure.digits)} {_unit(measure)}".rstrip()
    listed = f"{measure.label} beside the candidates: {'; '.join(beside)}. " if beside else ""
    paired = "paired by seed, with 95 % confidence interval, which ignores that it was chosen"
    return f"{listed}{measure.label}, {said}, {paired}."


def _unit(measure: Measure) -> str:
    """Of differences."""
    return "points" if measure.unit == "%" else measure.unit


def _small(measure: Measure) -> str:
    return measure.label[0].lower() + measure.label[1:]
