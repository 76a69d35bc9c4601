"""The renderer G: a StyleGAN2-like generator conditioned on a pyramid of normal maps.

One Render Block per resolution; each convolution's output is scaled and shifted per pixel by the Normal Injection
Module (NIM), whose maps come from the N branch, a small residual block on the normals of that resolution:

    f'' = m(n) f' + t(n),    m = 1 and t = 0 at initialisation      (equation 4)

"Inverting Generative Adversarial Renderer for Face Reconstruction" (CVPR 2021), on "Analyzing and Improving the Image
Quality of StyleGAN" (CVPR 2020).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from garfast.errors import ArgumentError
from garfast.networks.layers import EqualConv2d, EqualLinear, StyledConv, ToRGB

NIM_KINDS = ("scale_shift", "scale", "concat", "none")
CONDITIONS = {"normal": 3, "depth": 1, "params": 0}


@dataclass(frozen=True)
class GeneratorConfig:
    """Everything that defines a Generator's shape."""

    size: int = 256  # output resolution, a power of two from 8 to 1024
    z_dim: int = 512  # length of the latent code z
    style_dim: int = 512  # length of the style w
    mapping_layers: int = 8  # depth of the mapping network M
    mapping_lr_multiplier: float = 0.01  # its learning rate relative to the rest
    channel_base: int = 32768  # feature channels at resolution r: min(channel_base / r, channel_max)
    channel_max: int = 512
    nim: str = "scale_shift"  # how the condition enters: 'scale_shift', 'scale', 'concat' or 'none'
    nim_channels: int = 32  # width of the N branch
    condition: str = "normal"  # 'normal' and 'depth' maps enter through the N branch, 'params' beside z through M
    params_dim: int = 0  # length of the parameter vector for condition='params': shape, expression and rotation
    params_shape: int = 0  # how many of these are coefficients of the shape; the trainer knows

    def __post_init__(self) -> None:
        if self.size < 8 or self.size & (self.size - 1) or self.size > 1024:
            raise ArgumentError(f"GeneratorConfig: size must be a power of two from 8 to 1024, not {self.size}")
        if self.nim not in NIM_KINDS:
            raise ArgumentError(f"GeneratorConfig: nim must be one of {', '.join(NIM_KINDS)}, not {self.nim!r}")
        if self.condition not in CONDITIONS:
            raise ArgumentError(
                f"GeneratorConfig: condition must be one of {', '.join(CONDITIONS)}, not {self.condition!r}"
            )
        if (self.condition == "params") != (self.params_dim > 0):
            raise ArgumentError("GeneratorConfig: params_dim must be positive for condition='params' and 0 otherwise")

    @property
    def resolutions(self) -> list[int]:
        """4, 8, ... size: one Render Block each."""
        return [1 << k for k in range(2, self.size.bit_length())]

    @property
    def num_styles(self) -> int:
        """Styles that the network consumes: one per convolution and one for the last ToRGB."""
        return 2 * len(self.resolutions)

    @property
    def map_channels(self) -> int:
        """Channels of the condition maps; 0 where the condition is no map or nothing injects it."""
        return 0 if self.nim == "none" else CONDITIONS[self.condition]

    def channels(self, resolution: int) -> int:
        """Feature channels at a resolution."""
        return min(self.channel_base // resolution, self.channel_max)


def on_sphere(codes: Tensor) -> Tensor:
    """Codes [B, d] at length sqrt(d), about that of a Gaussian z; M looks at their direction alone."""
    return functional.normalize(codes.float(), dim=1) * math.sqrt(codes.shape[1])


class MappingNetwork(nn.Module):
    """M: z (and a parameter vector) -> w. Normalised input, leaky ReLU layers with a small learning rate."""

    mean_w: Tensor

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        widths = [config.z_dim + config.params_dim] + [config.style_dim] * config.mapping_layers
        self.layers = nn.Sequential(
            *(
                EqualLinear(a, b, lr_multiplier=config.mapping_lr_multiplier, activation="lrelu")
                for a, b in itertools.pairwise(widths)
            )
        )
        # Running mean of w, the centre that truncation pulls toward; the trainer updates it.
        self.register_buffer("mean_w", torch.zeros(config.style_dim))

    def forward(self, z: Tensor, params: Tensor | None = None) -> Tensor:
        """z [B, z_dim], params [B, params_dim] -> w [B, style_dim]."""
        z = z * torch.rsqrt(z.square().mean(1, keepdim=True) + 1e-8)
        return self.layers(z if params is None else torch.cat([z, params.to(z.dtype)], 1))

    @torch.no_grad()
    def update_mean(self, w: Tensor, decay: float = 0.998) -> None:
        """Move the running mean toward the batch's."""
        self.mean_w.lerp_(w.detach().float().mean(0), 1 - decay)


class NormalBranch(nn.Module):
    """N branch of one resolution: condition maps -> per-pixel scale and shift for each of the block's convolutions."""

    def __init__(self, config: GeneratorConfig, convolutions: int, impl: str) -> None:
        super().__init__()
        width = config.nim_channels
        self.first = EqualConv2d(config.map_channels, width, 3, impl=impl)
        self.second = EqualConv2d(width, width, 3, impl=impl)
        self.skip = EqualConv2d(config.map_channels, width, 1, bias=False, activation="linear", impl=impl)
        self.has_shift = config.nim == "scale_shift"
        self.convolutions = convolutions
        self.heads = nn.Conv2d(width, convolutions * (2 if self.has_shift else 1), 1)
        # m = 1, t = 0: training starts from the plain generator.
        for parameter in self.heads.parameters():
            nn.init.zeros_(parameter)

    def forward(self, maps: Tensor) -> list[tuple[Tensor, Tensor | None]]:
        """maps [B, C, r, r] -> for each convolution (scale [B, 1, r, r], shift [B, 1, r, r] or None)."""
        hidden = (self.second(self.first(maps)) + self.skip(maps)) / math.sqrt(2)
        out = self.heads(hidden)
        scales = 1 + out[:, : self.convolutions]
        shifts = out[:, self.convolutions :]
        return [
            (scales[:, k : k + 1], shifts[:, k : k + 1] if self.has_shift else None) for k in range(self.convolutions)
        ]


class RenderBlock(nn.Module):
    """All of one resolution: one convolution at 4x4, an up-sampling one and a plain one above, and ToRGB."""

    def __init__(self, config: GeneratorConfig, resolution: int, impl: str) -> None:
        super().__init__()
        out = config.channels(resolution)
        extra = config.map_channels if config.nim == "concat" else 0
        first = resolution == config.resolutions[0]
        self.convolutions = nn.ModuleList()
        if not first:
            previous = config.channels(resolution // 2)
            self.convolutions.append(StyledConv(previous, out, config.style_dim, up=2, impl=impl))
        self.convolutions.append(StyledConv(out + extra, out, config.style_dim, impl=impl))
        injects = config.map_channels > 0 and config.nim in ("scale_shift", "scale")
        self.normal_branch = NormalBranch(config, len(self.convolutions), impl) if injects else None
        self.concatenates = extra > 0
        self.to_rgb = ToRGB(out, config.style_dim, impl=impl)

    def forward(
        self, x: Tensor, image: Tensor | None, styles: Sequence[Tensor], maps: Tensor | None, noise: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """One block; ``styles`` holds one w per convolution and one for ToRGB.

        Returns:
            The features, the image so far, and the feature map of each convolution.
        """
        injected: list[tuple[Tensor | None, Tensor | None]] = [(None, None)] * len(self.convolutions)
        if self.normal_branch is not None and maps is not None:
            injected = list(self.normal_branch(maps))
        features = []
        for k, convolution in enumerate(self.convolutions):
            if self.concatenates and maps is not None and k == len(self.convolutions) - 1:
                x = torch.cat([x, maps.to(x.dtype)], 1)
            scale, shift = injected[k]
            x = convolution(x, styles[k], scale_map=scale, shift_map=shift, noise=noise[k])
            features.append(x)
        return x, self.to_rgb(x, styles[len(self.convolutions)], image), features


class GeneratorOutput(NamedTuple):
    """What :class:`Generator` returns."""

    image: Tensor  # [B, 3, size, size], RGB, about -1..1
    w: Tensor  # [B, num_styles, style_dim], after mixing and truncation
    features: list[Tensor]  # the feature map of every convolution, coarse to fine (G_i of equation 11)


class Generator(nn.Module):
    """The renderer G(n, z, noise).

    Args:
        config: its shape.
        impl: backend of the operators.
    """

    def __init__(self, config: GeneratorConfig | None = None, *, impl: str = "auto") -> None:
        super().__init__()
        self.config = config = config or GeneratorConfig()
        self.mapping = MappingNetwork(config)
        self.constant = nn.Parameter(torch.randn(1, config.channels(4), 4, 4))
        self.blocks = nn.ModuleList(RenderBlock(config, r, impl) for r in config.resolutions)
        # Convolutions of each block: one at 4x4, two above.
        self.counts = [1] + [2] * (len(config.resolutions) - 1)

    def noise_shapes(self, batch: int = 1) -> list[tuple[int, int, int, int]]:
        """Shapes of the noise maps, one per convolution, coarse to fine."""
        return [
            (batch, 1, r, r)
            for r, count in zip(self.config.resolutions, self.counts, strict=True)
            for _ in range(count)
        ]

    def sample_noise(self, batch: int, generator: torch.Generator | None = None) -> list[Tensor]:
        """Fresh Gaussian noise maps on the network's device."""
        like = self.constant
        return [
            torch.randn(shape, device=like.device, dtype=like.dtype, generator=generator)
            for shape in self.noise_shapes(batch)
        ]

    def styles(
        self,
        z: Tensor | Sequence[Tensor],
        *,
        params: Tensor | None = None,
        mixing_layer: int | None = None,
        truncation: float = 1.0,
    ) -> Tensor:
        """z -> w for every layer.

        Args:
            z: [B, z_dim]; or two of them for style mixing.
            params: [B, params_dim] for condition='params'.
            mixing_layer: first layer that takes the second code; needed with two codes.
            truncation: 1 keeps w, 0 gives the mean style.

        Returns:
            [B, num_styles, style_dim].
        """
        codes = [z] if isinstance(z, Tensor) else list(z)
        mapped = [self.mapping(code, params) for code in codes]
        count = self.config.num_styles
        if len(mapped) == 1:
            w = mapped[0][:, None].expand(-1, count, -1)
        else:
            if mixing_layer is None or not 0 < mixing_layer < count:
                raise ArgumentError(f"Generator.styles: mixing_layer must lie in 1..{count - 1}, not {mixing_layer}")
            first, second = mapped
            w = torch.cat(
                [
                    first[:, None].expand(-1, mixing_layer, -1),
                    second[:, None].expand(-1, count - mixing_layer, -1),
                ],
                1,
            )
        return w if truncation == 1.0 else torch.lerp(self.mapping.mean_w.to(w.dtype), w, truncation)

    def forward(
        self,
        maps: Sequence[Tensor] | Tensor | None,
        z: Tensor | Sequence[Tensor] | None = None,
        *,
        w: Tensor | None = None,
        params: Tensor | None = None,
        noise: Sequence[Tensor] | str | None = None,
        mixing_layer: int | None = None,
        truncation: float = 1.0,
    ) -> GeneratorOutput:
        """Render.

        Args:
            maps: the condition: normal maps [B, 3, r, r] (camera space, unit length, 0 background) or depth maps
                [B, 1, r, r] for r = 4, 8, ... size, coarse to fine, as ``rasterize_normals`` gives them; or one map at
                full size, which is averaged down; None for condition='params' or nim='none'.
            z: latent code [B, z_dim], or two for style mixing; not with ``w``.
            w: styles [B, style_dim] or [B, num_styles, style_dim].
            params: 3DMM parameters [B, params_dim] for condition='params'.
            noise: one map [B or 1, 1, r, r] per convolution (:meth:`noise_shapes`), 'zero', or None for fresh noise.
            mixing_layer, truncation: as for :meth:`styles`; not with ``w``.

        Raises:
            ArgumentError: neither or both of z and w, or maps or noise of the wrong number or size.
        """
        if (z is None) == (w is None):
            raise ArgumentError("Generator: give either z or w")
        if w is None:
            assert z is not None
            w = self.styles(z, params=params, mixing_layer=mixing_layer, truncation=truncation)
        elif w.dim() == 2:
            w = w[:, None].expand(-1, self.config.num_styles, -1)
        pyramid = self._pyramid(maps)
        batch = len(w)
        noises = self._noise(noise, batch)
        x = self.constant.expand(batch, -1, -1, -1).to(w.dtype)
        image: Tensor | None = None
        features: list[Tensor] = []
        layer = 0
        for block, level, count in zip(self.blocks, pyramid, self.counts, strict=True):
            # ToRGB shares its style with the next block's first convolution, so the index advances by the convolutions.
            styles = [w[:, layer + k] for k in range(count + 1)]
            x, image, more = block(x, image, styles, level, noises[layer : layer + count])
            features += more
            layer += count
        assert image is not None
        return GeneratorOutput(image, w, features)

    def _pyramid(self, maps: Sequence[Tensor] | Tensor | None) -> list[Tensor | None]:
        resolutions, channels = self.config.resolutions, self.config.map_channels
        if channels == 0:
            return [None] * len(resolutions)
        if maps is None:
            raise ArgumentError(f"Generator: condition={self.config.condition!r} needs maps")
        if isinstance(maps, Tensor):
            full = maps
            maps = [functional.adaptive_avg_pool2d(full, r) if full.shape[-1] != r else full for r in resolutions]
        wanted = [[channels, r, r] for r in resolutions]
        if [list(level.shape[1:]) for level in maps] != wanted:
            got = [list(level.shape[1:]) for level in maps]
            raise ArgumentError(f"Generator: maps must have shapes [B, ...] with {wanted}, not {got}")
        return list(maps)

    def _noise(self, noise: Sequence[Tensor] | str | None, batch: int) -> list[Tensor]:
        if noise is None:
            return self.sample_noise(batch)
        if isinstance(noise, str):
            if noise != "zero":
                raise ArgumentError(f"Generator: noise must be maps, 'zero' or None, not {noise!r}")
            return [torch.zeros(shape, device=self.constant.device) for shape in self.noise_shapes()]
        wanted = [list(shape[1:]) for shape in self.noise_shapes()]
        if [list(n.shape[1:]) for n in noise] != wanted:
            raise ArgumentError(f"Generator: noise must be {len(wanted)} maps [B, ...] with {wanted}")
        return list(noise)
