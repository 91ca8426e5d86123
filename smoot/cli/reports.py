"""Reports as text for a terminal."""

from typing import Any

KINDS = {"network": "network", "random": "random map", "edges": "edge filter"}
COLUMNS = {
    "own_gap_mean": "own, mean fill",
    "own_gap_black": "own, black",
    "judge_gap_mean": "judge, mean fill",
    "judge_gap_black": "judge, black",
    "gini": "Gini",
}


def training_text(report: dict[str, Any]) -> str:
    """What a training came to."""
    best = report["epochs"][report["best_epoch"] - 1]
    lines = [
        f"best epoch {report['best_epoch']}: validation accuracy {100 * best['validation_accuracy']:.1f} %",
        f"test: {_accuracy(report['test'])}" if report["test"] else "test: no images",
        f"{100 * report['waiting_share']:.0f} % of the training was spent waiting for images",
        *_skipped(report),
        f"weights: {report['weights']}",
    ]
    return "\n".join(lines)


def evaluation_text(report: dict[str, Any]) -> str:
    """What an evaluation found."""
    answers, noise = report["answers"], report["noise"]
    lines = [
        f"images: {answers['images']:,}, {report['which']}",
        f"answers: {_accuracy(answers)}, cross-entropy {answers['cross_entropy']:.3f}, "
        f"calibration error {100 * answers['calibration_error']:.1f} points",
        f"under noise of {noise['std']:g}: {_accuracy(noise)}",
        *_saliency(report.get("saliency")),
        *_skipped(report),
    ]
    return "\n".join(lines)


def _saliency(found: dict[str, Any] | None) -> list[str]:
    if found is None:
        return []
    if not found["images"]:
        return ["saliency: none of the images was answered rightly"]
    columns = [column for column in COLUMNS if column in found["network"]]
    rows = [f"  {'':12}" + "".join(f"{COLUMNS[column]:>18}" for column in columns)]
    for kind, name in KINDS.items():
        values = (
            f"{found[kind][column]:.3f}" if column == "gini" else _points(found[kind][column]) for column in columns
        )
        rows.append(f"  {name:12}" + "".join(f"{value:>18}" for value in values))
    return [
        f"saliency of {found['images']} images answered rightly: area under the insertion curve minus deletion curve, "
        "in points (higher is better)",
        *rows,
    ]


def _points(value: float) -> str:
    return f"{100 * value:+.1f}"


def _accuracy(found: dict[str, Any]) -> str:
    low, high = found["accuracy_interval_95"]
    return f"accuracy {100 * found['accuracy']:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def _skipped(report: dict[str, Any]) -> list[str]:
    skipped = report["skipped"]
    return (
        [f"skipped: {len(skipped)} files that could not be read", *(f"  {line}" for line in skipped)] if skipped else []
    )
