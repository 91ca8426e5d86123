"""What does a search over constant numbers find, and what do rules reach that decide the number online?

The search tries the study's *constant plans*: methods that mask fixed shares of the images and of their pixels and
differ in nothing else. The plan with the best mean over seeds, chosen in *hindsight*, flatters: the seeds that score it
have chosen it. *Held out*, the plan of each seed is chosen on all other seeds. Higher is better in every metric here;
frames hold one row of metrics per method and seed.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd

from workbench.reporting.chance import CONTROLS, source_of, with_controls
from workbench.reporting.charts import FILLED, Chart, Differences, forest
from workbench.reporting.cost import Config, run_costs
from workbench.reporting.metrics import ARROWS, Metrics
from workbench.reporting.style import INK, Look, Looks
from workbench.reporting.table import SPREAD, Table, scaled
from workbench.reporting.words import NOTHING, Titles, fixed, interval, plus_minus
from workbench.results.statistics import compare, holm
from workbench.studies.runs import StudyRuns

SHARES = ("image_fraction", "mask_fraction")  # of images, and of the pixels of each


def constant_plans(configs: Mapping[str, Config]) -> list[str]:
    """The largest group of methods that mask constant shares by saliency and differ in these shares alone.

    Raises:
        ValueError: if no two methods do.
    """
    groups: dict[str, list[str]] = {}
    for name, config in configs.items():
        plan = {key: value for key, value in config["plan"].items() if key not in SHARES}
        if config["schedule"] == "constant" and config["plan"]["image_fraction"] > 0 and plan["ranking"] == "saliency":
            alike = {key: value for key, value in config.items() if key != "name"} | {"plan": plan}
            groups.setdefault(json.dumps(alike, sort_keys=True), []).append(name)
    largest = max(groups.values(), key=len, default=[])
    if len(largest) < 2:
        raise ValueError(f"no two of the methods {list(configs)} differ in nothing but the constant shares they mask")
    return largest


def online_rules(configs: Mapping[str, Config]) -> list[str]:
    """The methods whose number changes during training or from image to image."""
    constant = {name for name, config in configs.items() if config["schedule"] == "constant"}
    return [name for name in configs if name not in constant or configs[name]["plan"].get("max_effect") is not None]


def best_plan(wide: pd.DataFrame) -> str:
    """The column, a plan, with the highest mean over the rows, seeds; of equals the first."""
    return str(wide.mean().idxmax())


def held_out_plans(wide: pd.DataFrame) -> dict[int, str]:
    """For each seed the best plan of the other seeds; empty with one seed."""
    return {int(seed): best_plan(wide.drop(index=seed)) for seed in wide.index} if len(wide) > 1 else {}


def standings(
    frame: pd.DataFrame, plans: Sequence[str], rules: Sequence[str], reference: str, costs: Mapping[str, float]
) -> pd.DataFrame:
    """The reference, the best constant plans and the rules in every metric.

    Args:
        frame: ``method``, ``seed`` and the metrics.
        plans, rules: the constant plans; the methods that decide online.
        reference: what gains are taken to.
        costs: of one training with each method.

    Returns:
        One row per line and metric: ``kind`` (reference, hindsight, held_out, rule), ``of`` (the metric that a plan was
        chosen by), ``method`` (all that were chosen for some seed), ``metric``, the fields of
        `statistics.PairedComparison` of the gain, ``cost`` of a network with the search for its plan, ``share`` of what
        the best plan for the metric gains held out (NaN unless that gain's whole interval is above zero).
    """
    metrics = {str(name): frame.pivot(index="seed", columns="method", values=name) for name in frame.columns[2:]}
    seeds, search = sorted(frame["seed"].unique()), sum(costs[plan] for plan in plans)
    lines = [("reference", "", dict.fromkeys(seeds, reference), 0.0)]
    for metric, wide in metrics.items():
        best = best_plan(wide[list(plans)])  # one of the networks of the search itself
        lines.append(("hindsight", metric, dict.fromkeys(seeds, best), len(seeds) * search - costs[best]))
        lines.append(("held_out", metric, held_out_plans(wide[list(plans)]), (len(seeds) - 1) * search))
    lines += [("rule", "", dict.fromkeys(seeds, rule), 0.0) for rule in rules]
    rows = []
    for metric, wide in metrics.items():
        for kind, of, chosen, searched in lines:
            if chosen:
                gain = compare([wide[chosen[seed]][seed] for seed in wide.index], wide[reference].tolist())
                keys = {"kind": kind, "of": of, "method": " ".join(dict.fromkeys(chosen.values())), "metric": metric}
                own = float(np.mean([costs[method] for method in chosen.values()]))
                rows.append(keys | asdict(gain) | {"cost": own + searched})
    found = pd.DataFrame(rows)
    sure = found[(found["kind"] == "held_out") & (found["of"] == found["metric"]) & (found["low"] > 0)]
    return found.assign(share=found["difference"] / found["metric"].map(sure.set_index("metric")["difference"]))


def _of_study(runs: StudyRuns, metrics: Metrics) -> pd.DataFrame:
    """The standings of a study's runs; costs are in trainings of the reference."""
    paid = run_costs(runs.records, runs.histories, runs.study.reference, runs.setting).groupby("method")["passes"]
    rules = [name for name in online_rules(runs.methods) if name in runs.shown]
    costs = {str(name): float(own.mean()) for name, own in paid}
    frame = runs.frame[["method", "seed", *metrics]]
    return standings(frame, constant_plans(runs.methods), rules, runs.study.reference, costs)


def _controls(runs: StudyRuns, metrics: Metrics) -> pd.DataFrame:
    """What maps reach that do not look at the network, as rows like those of the standings without gain and cost."""
    everything, _ = with_controls(runs.frame, dict.fromkeys(runs.methods, ""))
    rows = []
    for control in CONTROLS:
        own = everything[everything["method"] == control]
        for metric in metrics:
            keys = {"kind": "control", "of": "", "method": control, "metric": metric}
            rows.append(keys | {"mean": own[metric].mean(), "sd": own[metric].std()})
    return pd.DataFrame(rows)


def _title(metrics: Metrics, of: str, chosen: str) -> str:
    """``Best constant for accuracy (held out)``; without a metric that it was chosen by, a method's own title."""
    return f"Best constant for {_short(metrics[of].label).lower()} ({chosen})" if of else chosen


def _short(label: str) -> str:
    """``Judge's gap`` of ``Judge's gap, right answers, mean``."""
    return label.partition(",")[0]


def table(runs: StudyRuns, titles: Titles) -> Table:
    """What the reference, the best constant plans and the rules reach, gain and cost.

    Raises:
        ValueError: if a run lacks a metric of the headline, or there is nothing to search.
    """
    metrics, setting, reference = runs.headline(), runs.setting, titles[runs.study.reference]
    found = pd.concat([_of_study(runs, metrics), _controls(runs, metrics)], ignore_index=True)
    found, texts, shown = scaled(found, metrics), [], {**titles, **CONTROLS}
    for (kind, of, method), own in found.groupby(["kind", "of", "method"], sort=False):
        text = {"Method": _title(metrics, str(of), "held out" if kind == "held_out" else shown[str(method)])}
        for row in own.to_dict("records"):
            metric, gained = metrics[row["metric"]], kind not in ("reference", "control")
            gain = interval(row["difference"], row["low"], row["high"], metric.digits)
            text[metric.header] = plus_minus(row["mean"], row["sd"], metric.digits)
            text[f"{metric.label}: gain"] = gain if gained else NOTHING
            text[f"{metric.label}: of the held-out gain (%)"] = fixed(100 * row["share"] if gained else math.nan, 0)
        first = next(iter(metrics.values())).header
        cost = {"Cost (trainings) ↓": fixed(own["cost"].iloc[0], 1)}
        texts.append({"Method": text.pop("Method"), first: text.pop(first)} | cost | text)
    tried = [titles[name] for name in constant_plans(runs.methods)]
    source = source_of({name: titles[name] for name in runs.methods})
    caption = (
        f"{SPREAD}; gain: minus {reference}, paired by seed, with 95 % confidence interval, not adjusted. Held out: "
        f"for each seed the best number of all other seeds. {setting.facts}. {setting.origin}"
    )
    note = (
        f"The search tries {len(tried)} constant numbers ({'; '.join(tried)}). Best: the highest mean over seeds, in "
        f"hindsight, or held out; intervals of best numbers ignore that they were chosen, "
        "and held-out scores of several seeds are not independent. Of the held-out gain: as a share of what the best "
        f"number for this metric gains held out, {NOTHING} where that gain's interval is not above zero. Cost: of a "
        f"network, in trainings of {reference} (passes, counted image by image), with its search: every number with "
        f"every seed, held out with all seeds but one; forwards that measure a gap are not counted. "
        f"{source}. {runs.ending(metrics)}"
    )
    title = f"What a search over constant numbers finds, and what rules reach online, {setting.name}"
    return Table(f"oracle_{setting.place}", title, caption, found, pd.DataFrame(texts), note)


def chart(runs: StudyRuns, looks: Looks) -> Chart:
    """The gains of the best constant plans, held out, and of the rules; raises as :func:`table`."""
    metrics, setting, reference = runs.headline(), runs.setting, looks[runs.study.reference].title
    found = _of_study(runs, metrics).query("kind in ('held_out', 'rule')")
    adjusted = found.groupby("metric")["p_value"].transform(lambda p: np.array(holm(p.tolist())))
    found = found.assign(p_holm=adjusted, method=found["method"].where(found["of"] == "", "best for " + found["of"]))
    best = {f"best for {of}": Look(_title(metrics, of, "held out"), INK, "s") for of in metrics}
    panels = []
    for name, metric in metrics.items():
        axis = f"{_short(metric.label)}: gain ({metric.difference_unit}){ARROWS[metric.better]}"
        panels.append(Differences(_short(metric.label), axis, found[found["metric"] == name], metric.factor))
    caption = (
        f"Gains over {reference}, {setting.name}, paired by seed, with 95 % interval: of the constant number that is "
        f"best on all other seeds, and of rules that decide online; {FILLED}. {setting.facts}."
    )
    return Chart(f"oracle_{setting.place}", caption, forest(panels, {**best, **looks}, columns=len(panels)))
