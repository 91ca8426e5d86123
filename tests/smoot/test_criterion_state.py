"""The criterion's state: what it holds, what saves and loads it, and that training goes on from it to the bit."""

import copy
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, load_model, save_file, save_model
from states import same
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.distributed import checkpoint
from torch.distributed.checkpoint.state_dict import get_model_state_dict, set_model_state_dict

from smoot import AdaptiveSchedule, ConstantSchedule, Guidance, MaskPlan, MaskSchedule, SequenceSchedule
from smoot.criterion import SaliencyGuidedLoss

State = dict[str, Tensor]
HALF = MaskPlan(mask_fraction=0.5)


class Trainee(nn.Module):
    """A network for images (N, 3, 6, 6) of 4 classes that contains its criterion."""

    def __init__(self, criterion: SaliencyGuidedLoss, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Tanh(), nn.Flatten(), nn.Linear(64, 4))
        self.criterion = criterion

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


def made(seed: int = 0, schedule: MaskSchedule | None = None) -> SaliencyGuidedLoss:
    """A criterion with a generator that has done nothing yet."""
    return SaliencyGuidedLoss(schedule or AdaptiveSchedule(decay=0.5), generator=torch.Generator().manual_seed(seed))


def images_of(step: int) -> tuple[Tensor, Tensor]:
    """Noise images; the label is the brightest quarter of the first channel."""
    images = torch.rand(8, 3, 6, 6, generator=torch.Generator().manual_seed(step))
    quarters = nn.functional.avg_pool2d(images[:, 0], 3).flatten(1)
    return images, quarters.argmax(1)


def train(trainee: Trainee, optimizer: torch.optim.Optimizer, steps: range) -> list[Tensor]:
    """Some steps; returns their losses."""
    losses = []
    for step in steps:
        optimizer.zero_grad()
        losses.append(trainee.criterion.backward(trainee.layers, *images_of(step)).total)
        optimizer.step()
    return losses


def adam(trainee: Trainee) -> torch.optim.Optimizer:
    return torch.optim.Adam(trainee.parameters(), lr=0.02)


@pytest.fixture
def trained() -> Trainee:
    """After some steps, with feedback of two more that does not count yet."""
    trainee = Trainee(made(3))
    train(trainee, adam(trainee), range(5))
    state = trainee.criterion.state_dict()
    state["schedule_pending"][:2] = torch.tensor([[0.75, 0.5, 8, 4], [1.0, 0.25, 8, 4]])
    trainee.criterion.load_state_dict(state)
    assert same(trainee.criterion.state_dict(), state)
    return trainee


def goes_on_alike(criterion: SaliencyGuidedLoss, other: SaliencyGuidedLoss) -> bool:
    """Whether two criteria have the same state, and still do after three more steps with random masks."""
    assert criterion is not other and criterion.schedule is not other.schedule
    alike = same(criterion.state_dict(), other.state_dict())
    losses = []
    for each in (criterion, other):
        trainee = Trainee(each)
        losses.append(torch.stack(train(trainee, adam(trainee), range(10, 13))))
    return alike and torch.equal(*losses) and same(criterion.state_dict(), other.state_dict())


def through_torch(state: State, folder: Path) -> State:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def through_safetensors(state: State, folder: Path) -> State:
    save_file(state, folder.with_suffix(".safetensors"))
    return load_file(folder.with_suffix(".safetensors"))


def through_checkpoint(state: State, folder: Path) -> State:
    blank = {name: torch.zeros_like(value) for name, value in state.items()}
    with pytest.warns(UserWarning, match="in a single process"):
        checkpoint.save(state, checkpoint_id=folder)
        checkpoint.load(blank, checkpoint_id=folder)
    return blank


def test_it_holds_tensors_only_and_neither_parameters_nor_buffers(trained: Trainee) -> None:
    criterion = trained.criterion
    state = criterion.state_dict()
    assert state and all(type(value) is Tensor for value in state.values())
    assert not list(criterion.parameters()) and not list(criterion.buffers())
    assert {f"criterion.{name}" for name in state} < trained.state_dict().keys()
    assert all(torch.equal(getattr(criterion, name), value) for name, value in state.items())
    with pytest.raises(AttributeError):
        _ = criterion.schedule_of_nothing
    with pytest.raises(AttributeError):
        _ = SaliencyGuidedLoss().generator_state


def test_its_shapes_never_change(trained: Trainee) -> None:
    shapes = [[value.shape for value in each.state_dict().values()] for each in (made(), trained.criterion)]
    assert shapes[0] == shapes[1]


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated:UserWarning")  # of torch 2.6 itself
@pytest.mark.parametrize("way", [through_torch, through_safetensors, through_checkpoint])
def test_it_saves_and_loads_alone_and_in_a_model(
    trained: Trainee, tmp_path: Path, way: Callable[[State, Path], State]
) -> None:
    other, whole = made(9), Trainee(made(9), seed=9)
    other.load_state_dict(way(trained.criterion.state_dict(), tmp_path / "criterion"))
    set_model_state_dict(whole, way(get_model_state_dict(trained), tmp_path / "model"))
    assert same(whole.state_dict(), trained.state_dict())
    assert goes_on_alike(copy.deepcopy(trained.criterion), other)
    assert goes_on_alike(trained.criterion, whole.criterion)


def test_safetensors_saves_and_loads_a_model_that_contains_it(trained: Trainee, tmp_path: Path) -> None:
    save_model(trained, str(tmp_path / "model.safetensors"))
    other = Trainee(made(9), seed=9)
    assert load_model(other, str(tmp_path / "model.safetensors")) == (set(), [])
    assert same(other.state_dict(), trained.state_dict())
    assert goes_on_alike(trained.criterion, other.criterion)


@pytest.mark.parametrize("way", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_it_is_copied_and_pickled(trained: Trainee, way: Callable[[Any], Any]) -> None:
    other, whole = way(trained.criterion), way(trained)
    assert same(whole.state_dict(), trained.state_dict())
    assert same(whole.criterion.state_dict(), trained.criterion.state_dict())
    assert goes_on_alike(trained.criterion, other)
    assert goes_on_alike(whole.criterion, way(whole).criterion)


def test_the_models_that_it_has_checked_are_not_copied_along(trained: Trainee) -> None:
    trained.layers.unpicklable = lambda: None
    assert len(pickle.dumps(trained.criterion)) < 20_000
    trained.criterion.process_group = unlike_any = type("Group", (), {"__deepcopy__": None})()
    assert copy.deepcopy(trained.criterion).process_group is unlike_any


@pytest.mark.parametrize("foreach", [False, True])
def test_an_average_of_models_may_contain_it(trained: Trainee, foreach: bool) -> None:
    average = ModelEmaV3(trained, decay=0.5, foreach=foreach)
    before, state = average.module.layers[0].weight.clone(), average.module.criterion.state_dict()
    train(trained, adam(trained), range(3))
    average.update(trained)
    assert torch.allclose(average.module.layers[0].weight, (before + trained.layers[0].weight) / 2)
    assert same(average.module.criterion.state_dict(), state)  # an average does not train
    Trainee(made()).load_state_dict(average.module.state_dict())


def test_it_has_nothing_to_move_or_to_cast(trained: Trainee) -> None:
    state = trained.criterion.state_dict()
    for moved in (trained.criterion.to(torch.float16), trained.criterion.to("meta"), trained.criterion.half()):
        assert moved is trained.criterion and same(moved.state_dict(), state)
    blank = copy.deepcopy(trained).to("meta")
    blank.load_state_dict(trained.state_dict(), assign=True)
    assert same(blank.state_dict(), trained.state_dict())


def test_without_its_state_it_warns_and_starts_afresh(trained: Trainee) -> None:
    weights = {name: value for name, value in trained.state_dict().items() if name.startswith("layers.")}
    other = Trainee(made(9), seed=9)
    with pytest.warns(UserWarning, match=r"no criterion\.schedule_\.\.\.: the mask schedule starts afresh"):
        loaded = other.load_state_dict(weights, strict=True)
    assert loaded.missing_keys == loaded.unexpected_keys == []
    assert same(other.layers.state_dict(), trained.layers.state_dict())
    assert same(other.criterion.state_dict(), made(9).state_dict())


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        (AdaptiveSchedule(decay=0.9), "settings"),
        (AdaptiveSchedule(MaskPlan(mask_fraction=0.25), decay=0.5), "settings"),
        (ConstantSchedule(HALF), "another schedule"),
        (SequenceSchedule([HALF, HALF]), "another schedule"),
    ],
)
def test_the_state_of_another_schedule_is_refused_and_changes_nothing(
    trained: Trainee, schedule: MaskSchedule, words: str
) -> None:
    for source, target in ((trained.criterion, made(9, schedule)), (made(9, schedule), trained.criterion)):
        before = target.state_dict()
        with pytest.raises(ValueError, match=words):
            target.load_state_dict(source.state_dict())
        assert same(target.state_dict(), before)


@pytest.mark.parametrize("name", ["schedule_means", "schedule_pending", "schedule_steps", "generator_state"])
def test_a_broken_state_is_refused_and_changes_nothing(trained: Trainee, name: str) -> None:
    other = made(9)
    before, state = other.state_dict(), trained.criterion.state_dict()
    words = "state holds"
    if name == "generator_state":
        state[name] = state[name][:7]
        words = "generator_state is not the state of a generator on cpu"
    else:
        del state[name]
    with pytest.raises(ValueError, match=words):
        other.load_state_dict(state)
    assert same(other.state_dict(), before)


def test_the_next_masks_are_those_that_would_have_come(trained: Trainee) -> None:
    trained.criterion.schedule = ConstantSchedule(MaskPlan(image_fraction=0.5, ranking="random"))
    other = made(9, ConstantSchedule(MaskPlan(image_fraction=0.5, ranking="random")))
    other.load_state_dict(trained.criterion.state_dict())
    seen: list[list[Tensor]] = [[], []]
    for criterion, images in zip((trained.criterion, other), seen, strict=True):
        trainee = Trainee(criterion)
        handle = trainee.layers.register_forward_pre_hook(lambda _, inputs, images=images: images.append(inputs[0]))
        criterion(trainee.layers, *images_of(0))
        handle.remove()
    assert len(seen[0][-1]) == 4 and torch.equal(seen[0][-1], seen[1][-1])
    assert not torch.equal(seen[0][-1], images_of(0)[0][:4])


@pytest.mark.parametrize(
    "schedule",
    [
        AdaptiveSchedule(decay=0.5),
        ConstantSchedule(MaskPlan(image_fraction=0.3)),
        SequenceSchedule([MaskPlan(image_fraction=share) for share in (0.0, 0.2, 0.4, 0.6, 0.8)]),
    ],
    ids=lambda schedule: type(schedule).__name__,
)
def test_a_resumed_training_is_the_uninterrupted_one_to_the_bit(schedule: MaskSchedule, tmp_path: Path) -> None:
    whole, first = (Trainee(made(3, copy.deepcopy(schedule))) for _ in range(2))
    losses = train(whole, adam(whole), range(12))
    optimizer = adam(first)
    before = train(first, optimizer, range(7))
    torch.save({"model": first.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "checkpoint.pt")
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    second = Trainee(made(9, schedule), seed=9)
    second.load_state_dict(saved["model"])
    optimizer = adam(second)
    optimizer.load_state_dict(saved["optimizer"])
    after = train(second, optimizer, range(7, 12))
    assert torch.equal(torch.stack(losses), torch.stack(before + after))
    assert same(whole.state_dict(), second.state_dict())
    assert whole.criterion.schedule.plan == second.criterion.schedule.plan


def test_a_criterion_without_a_generator_loads_the_state_of_one_with(trained: Trainee) -> None:
    other = SaliencyGuidedLoss(AdaptiveSchedule(decay=0.5), Guidance(fill="mean"))
    other.load_state_dict(trained.criterion.state_dict())
    assert other.schedule.plan == trained.criterion.schedule.plan
    twin = made(9)
    twin.load_state_dict(other.state_dict())
    assert torch.equal(twin.generator_state, made(9).generator_state)
