"""The losses of the Generative Adversarial Renderer (equations 6 to 9) and StyleGAN2's regularisers.

    L_GAR = 1 L_adv + 2 L_n + 2 L_ldmk + 1 L_id                                  (9)

Adversarial part: non-saturating logistic loss (Goodfellow et al. 2014), R1 (Mescheder et al. 2018), path length (Karras
et al. 2020), here over the styles and over the normal maps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from garfast.networks.normal_estimator import FACE
from garfast.train.gar import distributed
from garfast.train.portraits import resize


def normal_consistency(estimate: Tensor, normals: Tensor) -> Tensor:
    """Smooth-L1 distance between estimated and given normals on the face's pixels (equation 6).

    Args:
        estimate: [B, 3, H, W] what N sees in G's picture.
        normals: [B, 3, H, W] the condition n, 0 off the face.

    Returns:
        The mean over the face's pixels and channels, a scalar; 0 where there is no face.
    """
    face = (normals.square().sum(1, keepdim=True) > FACE).to(estimate.dtype)
    distance = functional.smooth_l1_loss(estimate, normals.to(estimate.dtype), reduction="none") * face
    return distance.sum() / (3 * face.sum()).clamp_min(1)


def landmark_consistency(first: Tensor, second: Tensor) -> Tensor:
    """Mean distance between the landmarks of two pictures of one geometry (equation 7).

    Args:
        first, second: [B, L, 2] in units of half the picture's side, so that the picture spans -1..1.
    """
    return (first - second).square().sum(-1).add(1e-12).sqrt().mean()


def identity_consistency(first: Tensor, second: Tensor) -> Tensor:
    """Mean squared distance between the embeddings [B, E] of two pictures of one person (equation 8)."""
    return (first - second).square().sum(-1).mean()


def generator_adversarial(fake: Tensor) -> Tensor:
    """Non-saturating loss of G from D's logits [B] of its pictures."""
    return functional.softplus(-fake).mean()


def discriminator_adversarial(real: Tensor, fake: Tensor) -> Tensor:
    """Logistic loss of D from its logits [B] of photographs and of G's pictures."""
    return functional.softplus(-real).mean() + functional.softplus(fake).mean()


def r1_penalty(logits: Tensor, images: Tensor) -> Tensor:
    """Mean squared gradient of D's logits [B] with respect to photographs [B, 3, H, W], without the factor gamma / 2.

    Keeps the graph: the result can be differentiated with respect to D's weights.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.float().square().sum((1, 2, 3)).mean()


def spread_on_sphere(codes: Tensor) -> Tensor:
    """How far codes [B, d] are from uniform on the sphere: log mean exp(-2 |u_i - u_j|^2), u = code / |code|.

    Minimal for a uniform distribution (Wang and Isola, ICML 2020), which is what a Gaussian z looks like to the mapping
    network: it normalises its input.
    """
    unit = functional.normalize(codes.float(), dim=1)
    return torch.pdist(unit).square().mul(-2).exp().mean().add(1e-12).log()


def multiscale_l1(first: Tensor, second: Tensor, weight: Tensor | None = None, levels: int = 3) -> Tensor:
    """Mean absolute difference of two pictures [B, C, H, W], averaged over a pyramid of ``levels`` halvings.

    Args:
        weight: [B, 1, H, W] how much each pixel counts; all alike where None.
    """
    difference = first.float() - second.float()
    weight = torch.ones_like(difference[:, :1]) if weight is None else weight.float()
    total = difference.new_zeros(())
    for level in range(levels):
        if level:
            difference, weight = functional.avg_pool2d(difference, 2), functional.avg_pool2d(weight, 2)
        total = total + (difference.abs() * weight).mean(1).sum() / weight.sum().clamp_min(1e-6)
    return total / levels


def face_weight(normals: Tensor, size: int) -> Tensor:
    """[B, 1, size, size] 1.5 on the face of normal maps [B, 3, r, r], 0.5 beside it: a small code cannot hold every
    background."""
    return 0.5 + (resize(normals, size).square().sum(1, keepdim=True) > FACE).float()


class PathLength(nn.Module):
    """Path-length regularisation over styles and normal maps.

    A step of fixed size in w, and one in the normal maps, should change the picture by a fixed amount: the penalty is
    ``(|J^T y| - a)^2`` with y Gaussian and a the running mean of the lengths, once for each kind of input. With several
    processes the mean is that of all of them.
    """

    mean_w: Tensor
    mean_maps: Tensor

    def __init__(self, decay: float = 0.01) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("mean_w", torch.zeros(()))
        self.register_buffer("mean_maps", torch.zeros(()))

    def forward(self, image: Tensor, w: Tensor, maps: Sequence[Tensor], direction: Tensor) -> Tensor:
        """The penalty, a scalar; updates the running means.

        Args:
            image: [B, 3, H, W], made from ``w`` and ``maps`` with a graph.
            w: [B, L, D] styles.
            maps: normal maps [B, 3, r, r], coarse to fine; may be none.
            direction: [B, 3, H, W] standard normal noise y.
        """
        scaled = (image.float() * direction).sum() / math.sqrt(image.shape[-1] * image.shape[-2])
        gradients = torch.autograd.grad(scaled, [w, *maps], create_graph=True)
        lengths = gradients[0].float().square().sum(2).mean(1).add(1e-12).sqrt()
        penalty = self._penalty(lengths, self.mean_w)
        if maps:
            squares = [g.float().square().sum((1, 2, 3)) for g in gradients[1:]]
            penalty = penalty + self._penalty(torch.stack(squares).sum(0).add(1e-12).sqrt(), self.mean_maps)
        return penalty

    def _penalty(self, lengths: Tensor, mean: Tensor) -> Tensor:
        with torch.no_grad():
            mean.lerp_(distributed.average(lengths.mean()), self.decay)
        return (lengths - mean).square().mean()
