"""Whether a model's heatmaps can be trusted, from the checks that its card holds. This module does not import torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from napari_leukocls.models.card import ModelCard

State = Literal["trusted", "weak", "failed", "unchecked"]

#: The methods that make heatmaps. They are listed here, so that a list of choices does not import torch.
METHODS = ("gradcam", "gradcam++", "layercam", "hirescam", "eigencam", "scorecam")
#: Largest mean |r| between a model's maps and those of the same model with random weights.
RANDOMISATION_LIMIT = 0.5
#: Least difference between the probability that a model gives its class and that of the same model with random
#: weights: a model that is no surer has learnt nothing that its maps could show.
CONFIDENCE_FLOOR = 0.1
#: Least mean effect, in probability, of hiding or showing what a map points at, beyond that of something else.
EFFECT_FLOOR = 0.005


def own_method(card: ModelCard) -> str:
    """Return the heatmap method that a card names, else Grad-CAM.

    Parameters
    ----------
    card : ModelCard

    Returns
    -------
    str
        As in `napari_leukocls.explanation.cam.METHODS`.
    """
    return (card.gradcam.method if card.gradcam is not None else None) or "gradcam"


def badge(card: ModelCard, method: str | None = None) -> tuple[State, str]:
    """State in one word, and in figures, whether a model's heatmaps can be trusted.

    ``failed``: the maps look alike with random weights, so that they do not show what the model learnt; or the model
    is no surer of its classes than with random weights, and has learnt nothing.
    ``weak``: they depend on the model, but hiding or showing what they point at changes its mind no more than
    something else does. ``trusted``: all checks are passed. ``unchecked``: the card holds no checks of this
    method, or they belong to other weights.

    Parameters
    ----------
    card : ModelCard
    method : str, optional
        As in `napari_leukocls.explanation.cam.METHODS`; by default the card's own.

    Returns
    -------
    state : str
    figures : str
        One line for a tooltip.
    """
    checks = card.explanation_checks
    method = method or own_method(card)
    found = checks.methods.get(method) if checks is not None else None
    if checks is None or not found:
        return "unchecked", f"the heatmaps of this model have not been checked ({method})"
    if card.weights_sha256 and checks.weights_sha256 != card.weights_sha256:
        return "unchecked", "the checks in the card belong to other weights"
    return state_of(found), figures_text(found)


def state_of(found: Mapping[str, Any]) -> State:
    """Return the state that follows from the checks of one method.

    Parameters
    ----------
    found : mapping
        The checks, as a card holds them.

    Returns
    -------
    str
        ``trusted``, ``weak`` or ``failed``; see `badge`.
    """
    if not found["randomisation"]["passed"]:
        return "failed"
    if "occlusion" not in found:
        return "weak"  # no cell had any evidence to hide
    faithful = [part["passed"] for part in found["occlusion"].values()]
    faithful += [found["deletion"]["passed"], found["insertion"]["passed"]]
    return "trusted" if all(faithful) else "weak"


def figures_text(found: Mapping[str, Any]) -> str:
    """Return the figures of one method's checks in one line.

    Parameters
    ----------
    found : mapping
        The checks, as a card holds them.

    Returns
    -------
    str
    """
    whole = found["randomisation"]["whole"]
    parts = [f"random weights |r| {whole['pearson']:.2f} (passes below {found['randomisation']['limit']:g})"]
    if "confidence" in found["randomisation"]:
        own, other = found["randomisation"]["confidence"], whole["confidence"]
        parts.append(f"sure of its class {own:.2f} (random weights {other:.2f})")
    for fill, part in found.get("occlusion", {}).items():
        if part["ratio"] is not None:
            parts.append(f"hidden ({fill.replace('_', ' ')}) {part['ratio']:.1f}x a random region")
        else:
            low, high = part["difference_ci95"]
            parts.append(f"hidden ({fill.replace('_', ' ')}) {low:+.2f} to {high:+.2f} more than random")
    parts += [
        f"{name} AUC {found[name]['auc']:.2f} (random order {found[name]['random_auc']:.2f})"
        for name in ("deletion", "insertion")
        if name in found
    ]
    if found.get("energy_in_cell"):
        parts.append(f"{100 * found['energy_in_cell']['mean']:.0f} % of the map in the cell")
    return "; ".join(parts) + f"; n = {found['n']}"
