"""Maps under change: stable when the image changes a little, different when the network's layers are randomised."""

import copy
import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchmetrics.functional.image import structural_similarity_index_measure

from smoot.metrics import rank_correlation
from workbench.measuring.attribution import attribution_map
from workbench.training.randomness import drawn_seed, seeded

MOST_STEPS = 12  # a network with more layers than this has neighbouring ones randomised together
SSIM_WINDOW = 7  # side of the uniform window of the structural similarity, in pixels; smaller for smaller maps


def map_stability(saliency: Tensor, under_noise: Tensor) -> float:
    """How alike a map and the map of the same image under small noise are.

    Formula:
        ``mean over images of rho(m(x, y), m(x + s e, y))``, e one standard normal draw per image, rho Spearman's
        rank correlation over pixels, y the same class in both.

    Range:
        [-1, 1]; 1: the ranking of the pixels did not change. NaN if every map is constant.

    Better:
        higher.

    Source:
        Alvarez-Melis & Jaakkola 2018 (robustness of explanations), here as an average over random noise.

    Fails when:
        the map does not depend on the network: edges of the image are very stable, and a random map that is drawn
        from the same seed is perfectly so. Ranks among pixels that matter nothing count as much as the others.

    Args:
        saliency: ``(N, H, W)``, the maps m(x, y).
        under_noise: ``(N, H, W)``, the maps of the same class on the images of
            :func:`workbench.measuring.robustness.noisy`.

    Returns:
        The mean rank correlation; images whose map is constant are left out.
    """
    return float(rank_correlation(saliency, under_noise).nanmean())


def cascading_randomisation(
    network: nn.Module,
    images: Tensor,
    targets: Tensor,
    names: Sequence[str],
    *,
    batch_size: int,
    generator: torch.Generator,
) -> tuple[list[str], dict[str, dict[str, list[float]]]]:
    """Cascading randomisation of a network's layers, from the output to the input.

    Formula:
        for step l: ``mean over images of rho(m(f, x, y), m(f_l, x, y))`` and the mean SSIM of the two maps scaled to
        [0, 1], f_l being f with the l layers next to the output initialised afresh, m the attribution method,
        y the class given (the trained network's prediction, at every step), rho Spearman's rank correlation.

    Range:
        [-1, 1] for both; 1: the map did not change at all.

    Better:
        lower after all layers are randomised: near 0, the map depends on what was learned.

    Source:
        Adebayo et al., NeurIPS 2018; structural similarity by Wang et al. 2004.

    Fails when:
        maps of any network are alike because of the image (a black background with zero input times gradient) or
        the architecture (a few strong pixels, strided convolutions): similarity then stays high although the map
        does change where it matters. A low value does not make a map faithful: noise drawn afresh passes. Here
        every map is drawn from the same seed, so that the random control stays equal, and fails, as it should.

    Args:
        network: trained; left as it was, a copy of it is randomised.
        images: ``(N, C, H, W)`` in [0, 1].
        targets: ``(N,)`` int64, the trained network's predictions.
        names: keys of :data:`workbench.measuring.attribution.ATTRIBUTIONS`.
        batch_size: images at a time.
        generator: source of the fresh weights and of the maps' own draws.

    Returns:
        Names of L layers, the one next to the output first; and for each attribution method ``spearman``, L mean
        rank correlations (NaN if no map varies), and ``ssim``, L mean structural similarities.

    Raises:
        ValueError: for a network without parameters, or an unknown attribution method.
    """
    weights_seed, map_seed = drawn_seed(generator), drawn_seed(generator)
    broken = copy.deepcopy(network)
    steps = _steps(broken)

    def maps(explained: nn.Module, name: str) -> Tensor:
        draws = torch.Generator(images.device).manual_seed(map_seed)
        return attribution_map(name, explained, images, targets, batch_size=batch_size, generator=draws)

    trained = {name: maps(network, name) for name in names}
    similar: dict[str, dict[str, list[float]]] = {name: {"spearman": [], "ssim": []} for name in names}
    for index, step in enumerate(steps):
        with seeded((weights_seed + index) % 2**63, images.device):
            for module in step.values():
                reinitialise(module)
        for name in names:
            changed = maps(broken, name)
            similar[name]["spearman"].append(float(rank_correlation(trained[name], changed).nanmean()))
            similar[name]["ssim"].append(float(structural_similarity(trained[name], changed).mean()))
    return [list(step)[-1] for step in steps], similar


def structural_similarity(first: Tensor, second: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004) of maps scaled to [0, 1], each by its own minimum and maximum.

    A uniform window of 7 pixels (the largest odd side that fits for smaller maps), population variances, mean
    over the windows that lie wholly inside the map. A constant map counts as zero everywhere.

    Args:
        first, second: ``(N, H, W)``.

    Returns:
        ``(N,)`` in [-1, 1].
    """
    height, width = first.shape[1:]
    side = min(SSIM_WINDOW, min(height, width) - 1 + min(height, width) % 2)
    _, full = structural_similarity_index_measure(
        _unit_range(first).unsqueeze(1),
        _unit_range(second).unsqueeze(1),
        gaussian_kernel=False,
        kernel_size=side,
        data_range=1.0,
        reduction="none",
        return_full_image=True,
    )
    edge = side // 2
    inside = torch.as_tensor(full)[:, 0, edge : height - edge, edge : width - edge]
    return inside.flatten(1).mean(1)


def reinitialise(module: nn.Module) -> None:
    """Randomise a module's own parameters in place, with draws from the global generator.

    A layer with ``reset_parameters`` is initialised afresh, running statistics included. Other parameters (a class
    token, position embeddings) are shuffled, which keeps their scale.
    """
    fresh = getattr(module, "reset_parameters", None)
    if callable(fresh) and not list(module.children()):
        fresh()
        return
    for parameter in module.parameters(recurse=False):
        shuffled = parameter.detach().flatten()[torch.randperm(parameter.numel(), device=parameter.device)]
        parameter.data.copy_(shuffled.view_as(parameter))


def _steps(network: nn.Module) -> list[dict[str, nn.Module]]:
    """Modules that own parameters, last defined first: the first alone, the rest in groups of neighbours."""
    owners = [
        (name or "network", module)
        for name, module in network.named_modules()
        if next(module.parameters(recurse=False), None) is not None
    ][::-1]
    if not owners:
        raise ValueError("network has no parameters: expected at least one layer that can be randomised")
    groups = min(MOST_STEPS, len(owners)) - 1
    cuts = [0, *(1 + round(step * (len(owners) - 1) / groups) for step in range(groups + 1))] if groups else [0, None]
    return [dict(owners[low:high]) for low, high in itertools.pairwise(cuts)]


def _unit_range(maps: Tensor) -> Tensor:
    """Each map ``(N, H, W)`` scaled to [0, 1]; a constant one becomes zero."""
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return (maps - low) / (high - low).clamp(min=torch.finfo(maps.dtype).tiny)
