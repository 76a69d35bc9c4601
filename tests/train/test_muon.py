from __future__ import annotations

import copy

import torch
from torch import nn

from garfast.networks.layers import EqualLinear
from garfast.train.muon import Muon, muon_for, orthogonalised


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 16, 3), nn.Tanh(), nn.Conv2d(16, 2, 1))


def test_orthogonalised_keeps_singular_vectors_and_levels_singular_values():
    torch.manual_seed(1)
    for shape in ((12, 40), (40, 12)):
        matrix = torch.randn(shape)
        u, _, v = torch.linalg.svd(matrix, full_matrices=False)
        inside = u.T @ orthogonalised(matrix) @ v.T
        assert (inside.diagonal() > 0.6).all()
        assert (inside.diagonal() < 1.3).all()
        assert (inside - inside.diagonal().diag()).abs().max() < 1e-3


def test_inner_kernels_are_told_from_the_rest():
    layers = network()
    groups = muon_for(layers, ends=("0", "3"), rate=0.1, other_rate=0.01).param_groups
    assert [group["orthogonal"] for group in groups] == [True, False]
    assert groups[0]["params"] == [layers[1].weight]
    assert len(groups[1]["params"]) == len(list(layers.parameters())) - 1
    assert [group["rate"] for group in groups] == [0.1, 0.01]


def test_the_rest_moves_as_with_adamw():
    ours, theirs = network(), network()
    muon = Muon({}, ours.parameters(), other_rate=0.01, decay=0.1)
    adam = torch.optim.AdamW(theirs.parameters(), lr=0.01, weight_decay=0.1)
    for seed in range(4):
        for layers, optimizer in ((ours, muon), (theirs, adam)):
            optimizer.zero_grad()
            layers(torch.randn(2, 3, 9, 9, generator=torch.Generator().manual_seed(seed))).square().sum().backward()
            optimizer.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_a_kernels_first_step_is_its_gradient_made_orthogonal():
    layers = network()
    kernel = layers[1].weight
    before = kernel.detach().clone()
    optimizer = muon_for(layers, ends=("0", "3"), rate=0.1)
    layers(torch.randn(2, 3, 9, 9)).square().sum().backward()
    optimizer.step()
    expected = orthogonalised(kernel.grad.flatten(1)).view_as(kernel)
    torch.testing.assert_close(before - kernel.detach(), 0.1 * expected, rtol=1e-3, atol=1e-5)


def test_a_scaled_kernel_moves_as_far_as_one_used_as_it_is():
    torch.manual_seed(4)
    plain, scaled = nn.Linear(32, 8, bias=False), EqualLinear(32, 8, bias_init=None)
    with torch.no_grad():
        plain.weight.copy_(scaled.weight * scaled.scale)
    x = torch.randn(5, 32)
    for layer in (plain, scaled):
        optimizer = muon_for(layer, ends=("none",), rate=0.1)
        layer(x).square().sum().backward()
        optimizer.step()
    torch.testing.assert_close(plain.weight, scaled.weight * scaled.scale)


def test_state_goes_on_where_it_was():
    one = network()
    first = muon_for(one, ends=("0",))

    def move(layers: nn.Module, optimizer: Muon) -> None:
        optimizer.zero_grad()
        layers(torch.ones(2, 3, 9, 9).normal_(generator=torch.Generator().manual_seed(3))).abs().sum().backward()
        optimizer.step()

    move(one, first)
    two = copy.deepcopy(one)
    second = muon_for(two, ends=("0",))
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    move(one, first)
    move(two, second)
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b)
