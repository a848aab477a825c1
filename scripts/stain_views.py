"""Views of crops as other stains, cameras and outlines would give them; on the training device.

In batches.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

#: Haematoxylin, eosin, DAB in optical density (Ruifrok and Johnston 2001).
HED = torch.tensor([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])


def _uniform(like: torch.Tensor, low: float, high: float, *shape: int) -> torch.Tensor:
    return torch.empty((like.shape[0], *(shape or (1, 1, 1))), device=like.device).uniform_(low, high)


def _chance(like: torch.Tensor, share: float) -> torch.Tensor:
    return _uniform(like, 0, 1) < share


def place(
    crops: torch.Tensor, masks: torch.Tensor, side: int, ratio: float, strong: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Turn, flip, scale, stretch and shift.

    Parameters
    ----------
    crops : torch.Tensor, (B, 3, S, S), 0-1
    masks : torch.Tensor, (B, 1, S, S), 0-1
    side : int
        Of the views, pixels.
    ratio : float
        Stored side in um over the view's side in um.
    strong : bool
        Whether the scale varies as other rulers would make it.
    """
    size, device = crops.shape[0], crops.device
    angle = torch.empty(size, device=device).uniform_(0, 2 * math.pi)
    flip = torch.randint(0, 2, (size,), device=device) * 2.0 - 1
    spread = 0.38 if strong else 0.05
    zoom = torch.exp2(torch.empty(size, device=device).uniform_(-spread, spread)) / ratio
    stretch = (
        torch.exp2(torch.empty(size, device=device).uniform_(-0.1, 0.1))
        if strong
        else torch.ones(size, device=device)
    )
    cos, sin = torch.cos(angle), torch.sin(angle)
    theta = torch.zeros((size, 2, 3), device=device)
    theta[:, 0, 0], theta[:, 0, 1] = cos * zoom * stretch, -sin * zoom * flip / stretch
    theta[:, 1, 0], theta[:, 1, 1] = sin * zoom * stretch, cos * zoom * flip / stretch
    theta[:, :, 2] = torch.randn((size, 2), device=device) * 0.035
    fine = F.affine_grid(theta, [size, 3, 2 * side, 2 * side], align_corners=False)
    both = F.grid_sample(torch.cat([crops, masks], 1), fine, padding_mode="border", align_corners=False)
    both = F.avg_pool2d(both, 2)
    return both[:, :3], both[:, 3:]


def neighbours(crops: torch.Tensor, masks: torch.Tensor, white: float, share_kept: float) -> torch.Tensor:
    """Paint out, keep or swap what is not the cell.

    With outlines that are tighter or wider than they should be.
    """
    side = crops.shape[-1]
    wide = _blur(masks, _uniform(masks, 1.5, 9.0, 1))
    level = _uniform(masks, 0.03, 0.35)
    keep = torch.sigmoid((wide - level) * 24)
    cut = _half_plane(crops, side)
    keep = torch.where(_chance(crops, 0.06), keep * cut, keep)
    other = crops.roll(1, 0)
    other_keep = keep.roll(1, 0)
    glass = torch.full_like(crops, white) * (
        1 + 0.04 * torch.randn((crops.shape[0], 3, 1, 1), device=crops.device)
    )
    swapped = crops * keep + (other * (1 - other_keep) + glass * other_keep) * (1 - keep)
    painted = crops * keep + glass * (1 - keep)
    whole = _chance(crops, share_kept)
    swap = _chance(crops, 0.3) & whole
    return torch.where(whole, torch.where(swap, swapped, crops), painted)


def _half_plane(like: torch.Tensor, side: int) -> torch.Tensor:
    angle = _uniform(like, 0, 2 * math.pi, 1, 1)
    offset = _uniform(like, 0.15, 0.4, 1, 1)
    line = torch.linspace(-1, 1, side, device=like.device)
    plane = torch.cos(angle) * line[None, :, None] + torch.sin(angle) * line[None, None, :]
    return torch.sigmoid((offset - plane) * 30)[:, None]


def restain(crops: torch.Tensor, strength: float) -> torch.Tensor:
    """Vary haematoxylin, eosin and residual in optical density, then plain colour, gamma and light."""
    density = -torch.log(crops.clamp(1 / 255, 1))
    matrix = HED.to(crops)
    matrix = matrix / matrix.norm(dim=1, keepdim=True)
    jitter = matrix[None] + 0.06 * strength * torch.randn((crops.shape[0], 3, 3), device=crops.device)
    amounts = torch.einsum("bchw,cs->bshw", density, torch.linalg.inv(matrix))
    amounts = amounts * torch.exp(
        strength * 0.3 * torch.randn((crops.shape[0], 3, 1, 1), device=crops.device)
    )
    amounts = amounts + strength * 0.04 * torch.randn((crops.shape[0], 3, 1, 1), device=crops.device)
    crops = torch.exp(-torch.einsum("bshw,bsc->bchw", amounts, jitter).clamp(-0.2, 6)).clamp(0, 1)
    grey = crops.mean(1, keepdim=True)
    crops = grey + (crops - grey) * torch.exp(strength * _uniform(crops, -0.8, 0.5))
    crops = torch.where(_chance(crops, 0.08 * strength), grey.expand_as(crops), crops)
    crops = crops.clamp(0, 1) ** torch.exp(strength * _uniform(crops, -0.45, 0.45))
    gain = torch.exp(strength * 0.07 * torch.randn((crops.shape[0], 3, 1, 1), device=crops.device))
    return (crops * gain * torch.exp(strength * _uniform(crops, -0.2, 0.1))).clamp(0, 1)


def grain(crops: torch.Tensor, share: float) -> torch.Tensor:
    """Give a share of the crops a coarse grain of their stain, as other fixations, cameras and sharpeners do.

    What looks like granules there is none of the cell. The density is multiplied with correlated noise, of one
    colour or of three, and the crop is sharpened.
    """
    size, _, side, _ = crops.shape
    noise = torch.randn((size, 3, side, side), device=crops.device)
    noise = torch.where(_chance(crops, 0.5), noise[:, :1].expand_as(noise), noise)
    noise = _blur(noise, _uniform(crops, 0.5, 2.2, 1))
    noise = noise / noise.std((2, 3), keepdim=True).clamp(min=1e-6)
    density = -torch.log(crops.clamp(1 / 255, 1))
    rough = torch.exp(-density * (1 + noise * _uniform(crops, 0.05, 0.35)).clamp(min=0))
    sharp = (rough + _uniform(crops, 0.0, 1.0) * (rough - _blur(rough, _uniform(crops, 0.6, 1.4, 1)))).clamp(
        0, 1
    )
    return torch.where(_chance(crops, share), sharp, crops)


def turn_hue(crops: torch.Tensor, share: float, degrees: float) -> torch.Tensor:
    """Turn the hue of a share of the crops: their density's colour, about the grey axis (Rodrigues' formula)."""
    angle = _uniform(crops, -math.radians(degrees), math.radians(degrees), 1, 1)
    axis = torch.full((3,), 1 / math.sqrt(3), device=crops.device)
    cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]], device=crops.device) / math.sqrt(3)
    eye = torch.eye(3, device=crops.device)
    turn = eye * angle.cos() + cross * angle.sin() + torch.outer(axis, axis) * (1 - angle.cos())
    density = -torch.log(crops.clamp(1 / 255, 1))
    turned = torch.exp(-torch.einsum("bij,bjhw->bihw", turn, density).clamp(0, 6))
    return torch.where(_chance(crops, share), turned, crops)


def borrow_colours(
    crops: torch.Tensor, masks: torch.Tensor, bank: torch.Tensor, share: float
) -> torch.Tensor:
    """Give a share of the crops the colour statistics of cells of other laboratories (Reinhard, in density).

    Parameters
    ----------
    crops : torch.Tensor, (B, 3, s, s)
    masks : torch.Tensor, (B, 1, s, s)
    bank : torch.Tensor, (M, 2, 3)
        Mean and standard deviation of optical density inside cells, one row a cell.
    share : float
    """
    density = -torch.log(crops.clamp(1 / 255, 1))
    mean, std = density_statistics(density, masks)
    target = bank[torch.randint(0, len(bank), (crops.shape[0],), device=crops.device)]
    amount = _uniform(crops, 0.3, 1.0)
    new_mean = mean + (target[:, 0, :, None, None] - mean) * amount
    new_std = std * torch.exp(torch.log(target[:, 1, :, None, None] / std).clamp(-1, 1) * amount)
    # Glass stays glass: the shift acts in proportion to how much stain there is.
    inside = (density / mean.clamp(min=0.05)).clamp(0, 1)
    moved = density + inside * ((density - mean) * (new_std / std) + new_mean - density)
    return torch.where(_chance(crops, share), torch.exp(-moved.clamp(0, 6)), crops)


def density_statistics(density: torch.Tensor, masks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation (B, 3, 1, 1) of optical density inside the masks."""
    weight = (masks > 0.5).float()
    total = weight.sum((2, 3), keepdim=True).clamp(min=1)
    mean = (density * weight).sum((2, 3), keepdim=True) / total
    variance = ((density - mean) ** 2 * weight).sum((2, 3), keepdim=True) / total
    return mean, variance.sqrt().clamp(min=0.02)


def camera(crops: torch.Tensor, strength: float) -> torch.Tensor:
    """Blur, sharpen, lose resolution, compress and add noise."""
    side = crops.shape[-1]
    blurred = _blur(crops, _uniform(crops, 0.3, 0.3 + 1.7 * strength, 1))
    crops = torch.where(_chance(crops, 0.45), blurred, crops)
    sharp = crops + _uniform(crops, 0.3, 1.5) * (crops - _blur(crops, _uniform(crops, 0.6, 1.4, 1)))
    crops = torch.where(_chance(crops, 0.2), sharp.clamp(0, 1), crops)
    small = int(side * float(torch.empty(1).uniform_(0.4, 0.8)))
    lost = F.interpolate(F.interpolate(crops, (small, small), mode="area"), (side, side), mode="bilinear")
    crops = torch.where(_chance(crops, 0.2), lost, crops)
    crops = torch.where(_chance(crops, 0.4), _compress(crops), crops)
    noise = torch.randn_like(crops) * _uniform(crops, 0.0, 0.045 * strength)
    return torch.where(_chance(crops, 0.5), crops + noise, crops).clamp(0, 1)


def _compress(crops: torch.Tensor) -> torch.Tensor:
    """Quantise 8x8 cosine blocks, coarser at high frequencies, as JPEG does."""
    size, channels, side, _ = crops.shape
    index = torch.arange(8, device=crops.device, dtype=torch.float32)
    basis = torch.cos(math.pi * (2 * index[None] + 1) * index[:, None] / 16) * math.sqrt(2 / 8)
    basis[0] /= math.sqrt(2)
    blocks = crops.reshape(size, channels, side // 8, 8, side // 8, 8).permute(0, 1, 2, 4, 3, 5)
    spectrum = basis @ blocks @ basis.T
    step = (index[:, None] + index[None] + 1) * _uniform(crops, 0.004, 0.03)[..., None, None]
    spectrum = torch.round(spectrum / step) * step
    return (basis.T @ spectrum @ basis).permute(0, 1, 2, 4, 3, 5).reshape(crops.shape).clamp(0, 1)


def _blur(image: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """Gaussian blur, one sigma (pixels) an image, sigma (B, 1)."""
    size, channels, height, width = image.shape
    reach = 2 * math.ceil(float(sigma.max())) + 1
    offset = torch.arange(-reach, reach + 1, device=image.device, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (offset / sigma.clamp(min=0.05)) ** 2)
    weight = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(channels, 0)
    flat = image.reshape(1, size * channels, height, width)
    flat = F.conv2d(flat, weight[:, None, None, :], padding=(0, reach), groups=size * channels)
    flat = F.conv2d(flat, weight[:, None, :, None], padding=(reach, 0), groups=size * channels)
    return flat.reshape(image.shape)
