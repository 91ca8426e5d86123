"""What a stage of the pipeline made, as pictures for its notebook: how training went, and a few maps."""

import pandas as pd
from IPython.display import Image

from workbench.config.paths import SettingPaths
from workbench.config.profile import method_entries
from workbench.exploring.pictures import rendered
from workbench.reporting import charts, saliency_maps
from workbench.reporting.style import method_looks
from workbench.results.samples import samples_in

MOST = 8  # methods side by side


def training(histories: pd.DataFrame, profile: str) -> Image:
    """What was masked, accuracy and loss, epoch by epoch: means over seeds with 95 % confidence intervals."""
    looks = method_looks(method_entries(profile))
    trained = {method: looks[method] for method in histories["method"].unique()}
    return rendered(charts.training_schedule(histories, trained))


def maps(dataset: str, backbone: str, profile: str) -> Image:
    """Mean saliency maps of the methods that are measured on a setting, the first eight, on the same test images."""
    samples, looks = samples_in(SettingPaths(profile, dataset, backbone).folder), method_looks(method_entries(profile))
    shown = {method: samples[method] for method in [name for name in looks if name in samples][:MOST]}
    return rendered(saliency_maps.saliency_maps(shown, looks, dataset))
