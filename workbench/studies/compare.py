"""Do methods differ? Every method against one reference: what it reaches, gains, masks and costs."""

from workbench.reporting.chance import CONTROLS, source_of, with_controls
from workbench.reporting.charts import FILLED, Chart, Differences, forest
from workbench.reporting.cost import RUN, run_costs
from workbench.reporting.metrics import ARROWS
from workbench.reporting.style import Looks
from workbench.reporting.table import SPREAD, Row, Table, paired, summarised
from workbench.reporting.words import Titles
from workbench.results.statistics import compared_frame
from workbench.studies.runs import StudyRuns

COMPARED = (
    *("accuracy", "nll", "judge_gap_right_mean", "judge_gap_right_black", "second_judge_gap_right_mean"),
    *("second_judge_gap_right_black", "gap_black", "relevance_mass", "gini", "stability"),
)
DRAWN = ("accuracy", "judge_gap_right_mean", "gap_black", "stability")


def table(runs: StudyRuns, titles: Titles) -> Table:
    """What methods and controls reach, gain over the reference, mask and cost; the reference need not be a row.

    Relevance is left out where the data set has no region to speak of (`chance.located`).

    Raises:
        ValueError: if a run lacks another of the metrics `COMPARED`.
    """
    study, setting, frame = runs.study, runs.setting, runs.frame
    placeless = "relevance_mass" in frame and frame["relevance_mass"].isna().all()  # no object that saliency could miss
    metrics = runs.metrics(*(name for name in COMPARED if not (placeless and name == "relevance_mass")))
    reference, family = study.reference, list(dict.fromkeys([*runs.shown, study.reference]))
    paid = run_costs(runs.records, runs.histories, reference, setting)
    frame = frame.merge(paid, on=["method", "seed"], how="left")
    compared = {metric: compared_frame(frame, metric, family, [reference]) for metric in metrics}
    rows: list[Row] = []
    everything, shown = with_controls(frame, {method: titles[method] for method in runs.methods})
    for method in (*runs.shown, *CONTROLS):
        own = everything[everything["method"] == method]
        numbers: dict[str, object] = {"method": method, "n": len(own)}
        texts = {"Method": shown[method]}
        for name, metric in metrics.items():
            values, words = summarised(own, {name: metric})
            against, difference = paired(method, reference, compared[name], metric)
            numbers |= values | {f"{name}_{field}": value for field, value in against.items()}
            texts |= words | {f"{metric.label} (minus {titles[reference]})": difference}
        values, words = summarised(own, RUN)
        rows.append((numbers | values, texts | words))
    caption = (
        f"{SPREAD}; minus {titles[reference]}: paired by seed, with 95 % confidence interval. {setting.facts}. "
        f"{setting.origin}"
    )
    note = (
        f"p: paired t-test, Holm-adjusted over the {len(family) - 1} differences in the same measure. Images masked: "
        "mean over training. Cost of the run: its passes, counted image by image (forward 1, backward 2, to the inputs "
        f"alone 1, to the inputs as part of the loss's own backward 0), over those of {titles[reference]}'s epochs "
        f"without masks; forwards that measure a gap are not counted. "
        f"{source_of({name: titles[name] for name in runs.methods})}. {runs.ending(metrics)}"
    )
    return Table.of_rows(f"comparison_{setting.place}", f"{study.title}, {setting.name}", caption, rows, note)


def chart(runs: StudyRuns, looks: Looks) -> Chart:
    """The differences to the study's reference, one panel per metric; raises as :func:`table`."""
    frame, setting, reference = runs.frame, runs.setting, runs.study.reference
    methods, metrics = list(dict.fromkeys([reference, *runs.shown])), runs.metrics(*DRAWN)
    panels = []
    for name, metric in metrics.items():
        axis = f"{metric.difference_unit or 'correlation'}{ARROWS[metric.better]}"
        panels.append(Differences(metric.label, axis, compared_frame(frame, name, methods, [reference]), metric.factor))
    caption = (
        f"Differences to {looks[reference].title}, {setting.name}, paired by seed, with 95 % confidence interval; "
        f"{FILLED}. {setting.facts}."
    )
    figure = forest(panels, {method: looks[method] for method in methods}, columns=len(panels))
    return Chart(f"comparison_{setting.place}", caption, figure)
