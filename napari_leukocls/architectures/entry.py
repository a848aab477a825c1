"""Entry and InputRule: what is known of a network before it is built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from torch import nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)

IMAGENET_STD = (0.229, 0.224, 0.225)

#: Mean and standard deviation with which the networks from Google's code were trained.
INCEPTION = (0.5, 0.5, 0.5)
Builder = TypeVar("Builder", bound=Callable[..., Any])


@dataclass(frozen=True)
class InputRule:
    """Sides of square images that a network takes, in pixels.

    Attributes
    ----------
    side
        The side that the network is meant for.
    smallest
        The smallest side that it takes.
    multiple
        Sides must be multiples of this.
    fixed
        Whether `side` alone is taken.
    """

    side: int = 224
    smallest: int = 32
    multiple: int = 1
    fixed: bool = False

    def problem(self, height: int, width: int) -> str:
        """Describe why a network cannot take an image's size.

        Parameters
        ----------
        height, width : int
            Pixels.

        Returns
        -------
        str
            Empty if it can.
        """
        given = f"{height} x {width} px"
        if self.fixed and (height, width) != (self.side, self.side):
            return f"takes {self.side} x {self.side} px alone, not {given}"
        if min(height, width) < self.smallest:
            return f"takes images from {self.smallest} px on, not {given}"
        if height % self.multiple or width % self.multiple:
            return f"takes sides that are multiples of {self.multiple} px, not {given}"
        return ""


@dataclass(frozen=True)
class Entry:
    """What is known of an architecture before it is built.

    Attributes
    ----------
    name
    build
        Called with the number of classes and keyword arguments; returns the network.
    paper
        ``S1`` to ``S5`` for the papers that the project follows, ``timm`` for other timm models, else free.
    summary
        One line for a person who chooses.
    reference
        Citation or address.
    licence
        Of the code and, where timm has pretrained weights, of these.
    input
        Image sizes that the network takes.
    mean, std
        Per channel, of pixels scaled to 0-1; a model's card may state others.
    cam_target
        Dotted path of the layer that Grad-CAM looks at, or a function from the network to that layer.
    cam_reshape
        Turns the layer's output to (N, C, H, W): empty where it is that already, ``channels_last`` for
        (N, H, W, C), ``tokens`` for (N, H x W, C) that class tokens may lead, or a function.
    stages
        For progressive unfreezing, from the head to the stem: each a tuple of prefixes of module names. A
        function from the network to these where they depend on the arguments.
    frozen
        Prefixes of the names of parameters that the paper never trains.
    arguments
        Given to `build` where the caller says nothing else.
    variants
        Name to the arguments that make it.
    pretrained
        Prefix of the parameters' names to the timm model and tag whose weights fit there ("" is the whole
        network). `mean` and `std` are those that these weights are used to.
    paper_parameters, paper_macs, paper_variant
        The paper's numbers, and the variant that they are of.
    onnx_refusal
        Why it cannot be exported to ONNX; empty where it can.
    note
        What of the paper could not be matched, and how a contradiction in it was settled.
    """

    name: str
    build: Callable[..., Any]
    paper: str = ""
    summary: str = ""
    reference: str = ""
    licence: str = "BSD-3-Clause"
    input: InputRule = InputRule()
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    cam_target: str | Callable[[nn.Module], nn.Module] = ""
    cam_reshape: str | Callable[[Any], Any] = ""
    stages: tuple[tuple[str, ...], ...] | Callable[[nn.Module], tuple[tuple[str, ...], ...]] = ()
    frozen: tuple[str, ...] = ()
    arguments: Mapping[str, Any] = field(default_factory=dict)
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    pretrained: Mapping[str, str] = field(default_factory=dict)
    paper_parameters: int | None = None
    paper_macs: float | None = None
    paper_variant: str = ""
    onnx_refusal: str = ""
    note: str = ""


#: Of QLViT: the map that reaches the head is 32 times smaller than the image.
INPUT = InputRule(side=224, smallest=32, multiple=32)
