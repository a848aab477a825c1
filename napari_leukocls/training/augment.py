"""Random variation of crops, a batch at a time, on whatever device the batch is.

torchvision's transforms draw one set of parameters for a whole batch; crop by crop they would keep the
network waiting. So parameters are drawn here, one set a crop, from a generator of its own (a resumed run
draws the same), and torchvision's kernels do what has no parameter: mirroring, blurring, erasing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional
from torchvision.transforms.v2 import AutoAugment
from torchvision.transforms.v2 import functional as kernels

if TYPE_CHECKING:
    from napari_leukocls.training.config import TrainConfig

#: Haematoxylin, eosin and the residual in optical density (Ruifrok and Johnston 2001).
HED = ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11), (0.27, 0.57, 0.78))
_POLICY = AutoAugment()
#: Rows are luma and the two chroma axes of YIQ, in which a turn of the chroma plane is a change of hue.
YIQ = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))


@dataclass(frozen=True)
class Draw:
    """Random numbers for one batch."""

    generator: torch.Generator
    size: int
    device: torch.device

    def uniform(self, low: float, high: float, *shape: int) -> torch.Tensor:
        """Draw uniform numbers.

        Parameters
        ----------
        low : float
        high : float
        *shape : int
            Of one image's numbers.

        Returns
        -------
        torch.Tensor, (B, ...)
        """
        drawn = torch.rand((self.size, *shape), generator=self.generator)
        return (low + (high - low) * drawn).to(self.device)

    def normal(self, *shape: int) -> torch.Tensor:
        """Draw standard normal numbers.

        Parameters
        ----------
        *shape : int
            Of one image's numbers.

        Returns
        -------
        torch.Tensor, (B, ...)
        """
        return torch.randn((self.size, *shape), generator=self.generator).to(self.device)

    def chance(self, share: float, *shape: int) -> torch.Tensor:
        """Choose images with a probability.

        Parameters
        ----------
        share : float
            Probability of True.
        *shape : int
            Of one image's numbers.

        Returns
        -------
        torch.Tensor, (B, ...), bool
        """
        return self.uniform(0, 1, *shape) < share


def generator_for(*numbers: int) -> torch.Generator:
    """Return a random generator that depends on nothing but these numbers.

    Parameters
    ----------
    *numbers : int
        Such as seed, epoch and step.

    Returns
    -------
    torch.Generator
    """
    made = torch.Generator()
    made.manual_seed(int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1)))
    return made


def augment(
    crops: torch.Tensor, config: TrainConfig, generator: torch.Generator, outside: float
) -> torch.Tensor:
    """Make one random view of each crop.

    Parameters
    ----------
    crops : torch.Tensor, (B, 3, S, S), 0-1
    config : TrainConfig
    generator : torch.Generator
        On the CPU.
    outside : float
        Grey level, 0-1, of what lies beyond a crop.

    Returns
    -------
    torch.Tensor, (B, 3, S, S), 0-1
    """
    if not config.augmentation:
        return crops
    draw = Draw(generator, len(crops), crops.device)
    if config.policy == "autoaugment":
        crops = _by_policy(crops, draw)
    crops = _place(crops, config, draw, outside)
    if config.stain:
        crops = _restain(crops, config.stain, draw)
    crops = _recolour(crops, config, draw)
    if config.blur:
        sigma = float(draw.uniform(0.5, 1.5, 1)[0])
        chosen = draw.chance(config.blur)
        if chosen.any():
            crops[chosen] = kernels.gaussian_blur(crops[chosen], [5, 5], [sigma, sigma])
    if config.noise:
        spread = draw.uniform(0, config.noise, 1, 1, 1)
        crops = crops + spread * draw.normal(*crops.shape[1:])
    crops = crops.clamp_(0, 1)
    return _erase(crops, config.erasing, draw) if config.erasing else crops


def _by_policy(crops: torch.Tensor, draw: Draw) -> torch.Tensor:
    """Vary each crop by a policy of AutoAugment for ImageNet (Cubuk et al. 2019)."""
    seeds = torch.randint(0, 2**31 - 1, (draw.size,), generator=draw.generator)
    varied = []
    # torchvision draws from torch's own generator, which is put back afterwards.
    with torch.random.fork_rng(devices=[]):
        for crop, seed in zip((crops * 255).round().to(torch.uint8), seeds.tolist(), strict=True):
            torch.manual_seed(seed)
            varied.append(_POLICY(crop))
    return torch.stack(varied).to(crops.dtype) / 255


def _place(crops: torch.Tensor, config: TrainConfig, draw: Draw, outside: float) -> torch.Tensor:
    """Mirror, turn, scale and shift."""
    flip_x = torch.where(draw.chance(config.hflip), -1.0, 1.0)
    flip_y = torch.where(draw.chance(config.vflip), -1.0, 1.0)
    if not (config.rotation or config.translation or config.zoom):
        for flips, kernel in ((flip_x, kernels.horizontal_flip), (flip_y, kernels.vertical_flip)):
            crops = torch.where((flips < 0)[:, None, None, None], kernel(crops), crops)
        return crops
    angle = draw.uniform(-config.rotation, config.rotation) * (math.pi / 180)
    # The grid maps the view to the crop: to enlarge, it covers less of the crop.
    size = 1 / draw.uniform(1 - min(config.zoom, 0.9), 1 + config.zoom)
    cos, sin = torch.cos(angle) * size, torch.sin(angle) * size
    theta = torch.stack(
        [
            cos * flip_x,
            -sin * flip_y,
            torch.zeros_like(cos),
            sin * flip_x,
            cos * flip_y,
            torch.zeros_like(cos),
        ],
        1,
    ).view(-1, 2, 3)
    theta[:, :, 2] = 2 * draw.uniform(-config.translation, config.translation, 2)
    grid = functional.affine_grid(theta, list(crops.shape), align_corners=False)
    # What lies outside reads as zero there, so that zero is made to mean `outside`.
    moved = functional.grid_sample(crops - outside, grid, padding_mode="zeros", align_corners=False)
    return moved.add_(outside)


def _restain(crops: torch.Tensor, strength: float, draw: Draw) -> torch.Tensor:
    """Vary the amounts of the dyes in optical density (Tellez et al. 2019)."""
    matrix = torch.tensor(HED, device=crops.device)
    matrix = matrix / matrix.norm(dim=1, keepdim=True)
    scale = 1 + strength * draw.uniform(-1, 1, 3)
    shift = 0.1 * strength * draw.uniform(-1, 1, 3)
    density = -torch.log(crops.clamp(1 / 255, 1))
    # Unmixing, scaling and mixing are one matrix a crop.
    mixed = torch.linalg.inv(matrix) @ torch.diag_embed(scale) @ matrix
    there = density.flatten(2)
    turned = mixed.transpose(1, 2) @ there
    # Glass stays glass: the shift acts where there is stain.
    stained = (there.mean(1, keepdim=True) * 4).clamp(max=1)
    added = (shift @ matrix)[:, :, None] * stained
    return torch.exp(-(turned + added).clamp_(0, 6)).view_as(crops)


def _recolour(crops: torch.Tensor, config: TrainConfig, draw: Draw) -> torch.Tensor:
    """Brightness, contrast, saturation and hue, all in one matrix a crop."""
    if not (config.brightness or config.contrast or config.saturation or config.hue):
        return crops
    light = draw.uniform(1 - config.brightness, 1 + config.brightness, 1, 1)
    contrast = draw.uniform(1 - config.contrast, 1 + config.contrast, 1, 1)
    colour = draw.uniform(1 - config.saturation, 1 + config.saturation)
    turn = draw.uniform(-config.hue, config.hue) * (2 * math.pi)
    to_yiq = torch.tensor(YIQ, device=crops.device)
    chroma = torch.zeros((len(crops), 3, 3), device=crops.device)
    chroma[:, 0, 0] = 1
    chroma[:, 1, 1] = chroma[:, 2, 2] = colour * torch.cos(turn)
    chroma[:, 1, 2], chroma[:, 2, 1] = -colour * torch.sin(turn), colour * torch.sin(turn)
    matrix = torch.linalg.inv(to_yiq) @ chroma @ to_yiq * light
    flat = crops.flatten(2)
    level = (flat.mean(2, keepdim=True).mean(1, keepdim=True) * light).clamp(0, 1)
    # contrast * (m x - level) + level, as one affine map
    return torch.baddbmm(level * (1 - contrast), matrix * contrast, flat).view_as(crops)


def _erase(crops: torch.Tensor, share: float, draw: Draw) -> torch.Tensor:
    """Put a rectangle of one colour over a part (Zhong et al. 2020)."""
    side = crops.shape[-1]
    area, ratio = draw.uniform(0.02, 0.2), torch.exp(draw.uniform(-1.2, 1.2))
    corner, colour, chosen = draw.uniform(0, 1, 2), draw.uniform(0, 1, 3, 1, 1), draw.chance(share)
    for row in torch.nonzero(chosen).flatten().tolist():
        height = min(side, max(1, round(side * float((area[row] * ratio[row]).sqrt()))))
        width = min(side, max(1, round(side * float((area[row] / ratio[row]).sqrt()))))
        top, left = (int(float(corner[row, k]) * (side - length)) for k, length in enumerate((height, width)))
        kernels.erase(crops[row], top, left, height, width, colour[row], inplace=True)
    return crops


def mix(
    images: torch.Tensor, targets: torch.Tensor, config: TrainConfig, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Blend each image with another (mixup), or put a part of another into it (cutmix).

    If the settings ask for both, each batch takes one of them at random.

    Parameters
    ----------
    images : torch.Tensor, (B, 3, S, S)
    targets : torch.Tensor, (B, C)
        Probabilities.
    config : TrainConfig
    generator : torch.Generator
        Of the random numbers.

    Returns
    -------
    tuple of torch.Tensor
        Images and targets.
    """
    if not (config.mixup or config.cutmix):
        return images, targets

    seed = int(torch.randint(0, 2**31 - 1, (1,), generator=generator))
    random = np.random.default_rng(seed)
    cuts = config.cutmix > 0 and (config.mixup == 0 or random.random() < 0.5)
    alpha = config.cutmix if cuts else config.mixup
    share = float(random.beta(alpha, alpha))
    other = images.roll(1, 0)
    if not cuts:
        images = share * images + (1 - share) * other
    else:
        side = images.shape[-1]
        length = round(side * math.sqrt(1 - share))
        top, left = (int(random.integers(0, side - length + 1)) for _ in range(2))
        images = images.clone()
        window = (..., slice(top, top + length), slice(left, left + length))
        images[window] = other[window]
        share = 1 - length * length / (side * side)
    return images, share * targets + (1 - share) * targets.roll(1, 0)
