from __future__ import annotations

import torch
from torch import Tensor

from invertune.baselines.pool import Pool, nearest

AXES = torch.eye(4)


def test_the_most_similar_feature_is_taken_and_no_gradient() -> None:
    features = torch.tensor([[0.6, 0.8, 0, 0], [-1.0, 0, 0, 0]], requires_grad=True)
    among = torch.stack([AXES[0], AXES[1], -AXES[2]]).requires_grad_()
    found = nearest(features, among)
    # 0.8 > 0.6; and -1 is the least, so that the first of the two others is nearest.
    assert torch.equal(found, torch.stack([AXES[1], AXES[1]]))
    assert not found.requires_grad


def test_the_oldest_go_first() -> None:
    pool = Pool(3)
    pool.push(AXES[:2])
    pool.push(AXES[2:])
    assert pool.features is not None
    assert torch.equal(pool.features, AXES[1:])
    pool.push(torch.cat([AXES, -AXES]))  # more than it holds
    assert torch.equal(pool.features, -AXES[1:])


def test_a_batch_is_looked_up_among_earlier_ones() -> None:
    pool = Pool(4)
    leaning = torch.nn.functional.normalize(AXES[:2] + 0.1 * AXES[2:], dim=1)
    assert torch.equal(pool.look_up(leaning, AXES[:2]), AXES[:2])  # the first finds its own
    assert torch.equal(pool.look_up(AXES[2:], AXES[2:]), AXES[[0, 0]])
    assert torch.equal(pool.look_up(leaning, leaning), AXES[:2])
    assert pool.features is not None
    assert torch.equal(pool.features, torch.cat([AXES[2:], leaning]))


def test_it_keeps_values_not_graphs_or_views() -> None:
    pool, weights = Pool(4), AXES.clone().requires_grad_()
    pushed: Tensor = weights * 1
    pool.push(pushed)
    pushed.data.zero_()
    assert pool.features is not None
    assert not pool.features.requires_grad
    assert torch.equal(pool.features, AXES)


def test_another_pool_goes_on() -> None:
    pool, other = Pool(3), Pool(3)
    other.restore(pool.state())
    assert other.features is None
    pool.push(AXES)
    other.restore(pool.state())
    pool.push(-AXES[:1])
    assert other.features is not None
    assert torch.equal(other.features, AXES[1:])
