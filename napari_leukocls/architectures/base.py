"""What the networks share: a head like timm's, attention, and the check of an image's size."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from napari_leukocls.architectures.entry import InputRule
from napari_leukocls.errors import ModelError


class SizeGuard:
    """Refuses images that a network is not made for; also a forward pre-hook.

    Parameters
    ----------
    name : str
        Of the architecture, for the message.
    rule : InputRule
    """

    def __init__(self, name: str, rule: InputRule) -> None:
        self.name = name
        self.rule = rule

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Check a module's first input: the form of a forward pre-hook.

        Parameters
        ----------
        module : torch.nn.Module
        inputs : tuple
            The first is the images, (N, 3, H, W).
        """
        self.check(inputs[0])

    def check(self, images: torch.Tensor) -> None:
        """Check the form and the size of a batch of images.

        Parameters
        ----------
        images : torch.Tensor

        Raises
        ------
        ModelError
            If they are not (N, 3, H, W), or the network cannot take their size.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise ModelError(
                f"{self.name} takes a batch of colour images (N, 3, H, W), not {tuple(images.shape)}."
            )
        problem = self.rule.problem(*images.shape[-2:])
        if problem:
            raise ModelError(f"{self.name} {problem}: resize the crops to {self.rule.side} px.")


class HeadedNet(nn.Module):
    """A network whose last layer is one `Linear`, with timm's names for its parts.

    By default the map of `backbone`, which the maker of the network sets, is averaged over its places;
    a subclass may have `forward_features` and `pooled` of its own.

    Parameters
    ----------
    guard : SizeGuard
    num_features : int
        Length of the vector that feeds the last layer.
    num_classes : int
    dropout : float
        Before the last layer.
    """

    def __init__(self, guard: SizeGuard, num_features: int, num_classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.guard = guard
        self.num_features = num_features
        self.num_classes = num_classes
        self.head_drop = nn.Dropout(dropout)
        self.classifier: nn.Module = nn.Linear(num_features, num_classes)

    def forward_features(self, images: torch.Tensor) -> Any:
        """Compute what `pooled` takes.

        Parameters
        ----------
        images : torch.Tensor, (N, 3, H, W)

        Returns
        -------
        object
            By default the last maps, (N, D, h, w).
        """
        self.guard.check(images)
        return self.backbone(images)  # type: ignore[operator]

    def pooled(self, maps: Any) -> torch.Tensor:
        """Compute the vectors that the last layer takes.

        Parameters
        ----------
        maps : object
            As `forward_features` returns it.

        Returns
        -------
        torch.Tensor, (N, D)
        """
        tensor: torch.Tensor = maps.mean((2, 3))
        return tensor

    def forward_head(self, maps: Any, pre_logits: bool = False) -> torch.Tensor:
        """Compute the logits from the last maps.

        Parameters
        ----------
        maps : torch.Tensor
            As `forward_features` returns them.
        pre_logits : bool
            Return the vectors that the last layer takes.

        Returns
        -------
        torch.Tensor, (N, C)
            Logits; or the vectors, (N, D).
        """
        vectors = self.head_drop(self.pooled(maps))
        tensor: torch.Tensor = vectors if pre_logits else self.classifier(vectors)
        return tensor

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the logits.

        Parameters
        ----------
        images : torch.Tensor, (N, 3, H, W)

        Returns
        -------
        torch.Tensor, (N, C)
        """
        return self.forward_head(self.forward_features(images))

    def get_classifier(self) -> nn.Module:
        """Return the last layer."""
        return self.classifier

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the last layer by a new one.

        Parameters
        ----------
        num_classes : int
            If it is 0, there is no last layer, and the network returns its vectors.
        """
        self.num_classes = num_classes
        last = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()
        weight = next(self.parameters())
        self.classifier = last.to(weight.device, weight.dtype)


class Attention(nn.Module):
    """Multi-head attention whose heads may be of any width, over its own tokens or over others'.

    Parameters
    ----------
    width : int
        Of the tokens.
    heads : int
    head_width : int
        Of the queries, keys and values of a head.
    dropout : float
        Of the attention weights and the output.
    """

    def __init__(self, width: int, heads: int, head_width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.head_width = head_width
        self.query = nn.Linear(width, heads * head_width)
        self.key = nn.Linear(width, heads * head_width)
        self.value = nn.Linear(width, heads * head_width)
        self.out = nn.Linear(heads * head_width, width)
        self.dropout = dropout
        self.drop = nn.Dropout(dropout)

    def _split(self, tokens: torch.Tensor) -> torch.Tensor:
        count, length, _ = tokens.shape
        return tokens.view(count, length, self.heads, self.head_width).transpose(1, 2)

    def forward(self, tokens: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        """Apply attention: the tokens are the queries, the context gives keys and values.

        Parameters
        ----------
        tokens : torch.Tensor, (N, L, C)
        context : torch.Tensor, (N, M, C), optional
            By default the tokens themselves.

        Returns
        -------
        torch.Tensor, (N, L, C)
        """
        context = tokens if context is None else context
        query, key, value = self.query(tokens), self.key(context), self.value(context)
        mixed = functional.scaled_dot_product_attention(
            self._split(query),
            self._split(key),
            self._split(value),
            dropout_p=self.dropout if self.training else 0.0,
        )
        tensor: torch.Tensor = self.drop(self.out(mixed.transpose(1, 2).flatten(2)))
        return tensor

    def weights(self, tokens: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        """Compute the attention weights.

        Parameters
        ----------
        tokens : torch.Tensor, (N, L, C)
        context : torch.Tensor, (N, M, C), optional
            By default the tokens themselves.

        Returns
        -------
        torch.Tensor, (N, heads, L, M)
            Each row sums to 1.
        """
        context = tokens if context is None else context
        query, key = self._split(self.query(tokens)), self._split(self.key(context))
        tensor: torch.Tensor = (query @ key.transpose(-2, -1) / self.head_width**0.5).softmax(-1)
        return tensor


def to_tokens(maps: torch.Tensor) -> torch.Tensor:
    """Turn maps into tokens.

    Parameters
    ----------
    maps : torch.Tensor, (N, C, H, W)

    Returns
    -------
    torch.Tensor, (N, H x W, C)
    """
    return maps.flatten(2).transpose(1, 2)
