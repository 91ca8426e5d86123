"""The global random state inside and after a block."""

import pytest
import torch

from workbench.training.randomness import drawn_seed, seeded

CPU = torch.device("cpu")


def test_a_seeded_block_draws_the_same_and_leaves_the_state_as_it_was() -> None:
    before = torch.get_rng_state()
    for seed in (5, 5, 6):
        with seeded(seed, CPU):
            assert torch.equal(torch.rand(4), torch.rand(4, generator=torch.Generator().manual_seed(seed)))
    with pytest.raises(RuntimeError, match="inside"), seeded(1, CPU):
        torch.rand(3)
        raise RuntimeError("inside")
    assert torch.equal(torch.get_rng_state(), before)


def test_seeds_follow_the_generator_and_differ() -> None:
    first, second = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    seeds = [drawn_seed(first) for _ in range(20)]
    assert seeds == [drawn_seed(second) for _ in range(20)]
    assert len(set(seeds)) == 20 and all(0 <= seed < 2**62 for seed in seeds)
