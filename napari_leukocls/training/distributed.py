"""Where a training runs: one device, or several processes that accelerate has started."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from napari_leukocls.device import resolve_device
from napari_leukocls.errors import DeviceError

if TYPE_CHECKING:
    from napari_leukocls.training.config import TrainConfig


class Backend:
    """One process on one device.

    Parameters
    ----------
    device : str
    config : TrainConfig
    """

    rank = 0
    world = 1

    def __init__(self, device: str, config: TrainConfig) -> None:
        self.device = torch.device(device)
        self._dtype = _precision(config.amp, self.device)
        self._scaler = torch.amp.GradScaler(self.device.type) if self._dtype is torch.float16 else None

    @property
    def is_main(self) -> bool:
        """Whether this process reports and writes."""
        return self.rank == 0

    def wrap(self, net: nn.Module) -> nn.Module:
        """Return the network as it is trained.

        Parameters
        ----------
        net : torch.nn.Module

        Returns
        -------
        torch.nn.Module
        """
        return net

    def precision(self) -> contextlib.AbstractContextManager[Any]:
        """Return the context of the forward pass.

        Returns
        -------
        context manager
        """
        if self._dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self._dtype)

    def step(self, loss: torch.Tensor, optimiser: torch.optim.Optimizer, net: nn.Module, clip: float) -> None:
        """Make one step down the gradient of a loss.

        Parameters
        ----------
        loss : torch.Tensor
        optimiser : torch.optim.Optimizer
        net : torch.nn.Module
        clip : float
            Largest norm of the gradient; 0 does not clip.
        """
        optimiser.zero_grad(set_to_none=True)
        scaler = self._scaler
        (loss if scaler is None else scaler.scale(loss)).backward()
        if scaler is not None:
            scaler.unscale_(optimiser)
        if clip:
            nn.utils.clip_grad_norm_([p for p in net.parameters() if p.grad is not None], clip)
        if scaler is None:
            optimiser.step()
        else:
            scaler.step(optimiser)
            scaler.update()

    def scaler_state(self) -> dict[str, Any]:
        """Return the state of the gradient scaler, as plain values.

        Returns
        -------
        dict
        """
        return {} if self._scaler is None else self._scaler.state_dict()

    def load_scaler(self, state: dict[str, Any]) -> None:
        """Put the state of the gradient scaler back.

        Parameters
        ----------
        state : dict
        """
        if self._scaler is not None and state:
            self._scaler.load_state_dict(state)

    def any_true(self, mine: bool) -> bool:
        """Return whether any process says yes.

        Parameters
        ----------
        mine : bool
            Of this process.

        Returns
        -------
        bool
        """
        return mine

    def same(self, value: Any) -> Any:
        """Return the value of the main process, in all processes.

        Parameters
        ----------
        value : object

        Returns
        -------
        object
        """
        return value

    def main_first(self) -> contextlib.AbstractContextManager[Any]:
        """Let the main process go through a block before the others.

        Returns
        -------
        context manager
        """
        return contextlib.nullcontext()


class DistributedBackend(Backend):
    """One of several processes that ``accelerate launch`` has started."""

    def __init__(self, device: str, config: TrainConfig) -> None:
        try:
            from accelerate import Accelerator
            from accelerate.utils import broadcast_object_list
        except ImportError as error:
            raise DeviceError(
                "several processes need accelerate: pip install 'napari-leukocls[distributed]'."
            ) from error
        self._broadcast = broadcast_object_list
        self._accelerator = Accelerator(cpu=device == "cpu")
        super().__init__(str(self._accelerator.device), config)
        self.rank = self._accelerator.process_index
        self.world = self._accelerator.num_processes

    def wrap(self, net: nn.Module) -> nn.Module:
        """Return the network as it is trained: its gradients are averaged over the processes.

        Parameters
        ----------
        net : torch.nn.Module

        Returns
        -------
        torch.nn.Module
        """
        ids = [self.device.index] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(net, device_ids=ids)

    def any_true(self, mine: bool) -> bool:
        """Return whether any process says yes.

        Parameters
        ----------
        mine : bool
            The answer of this process.

        Returns
        -------
        bool
        """
        flag = torch.tensor([float(mine)], device=self.device)
        return bool(self._accelerator.reduce(flag, "sum")[0] > 0)

    def same(self, value: Any) -> Any:
        """Return the value of the main process, in all processes.

        Parameters
        ----------
        value : object
            Only that of the main process counts.

        Returns
        -------
        object
        """
        return self._broadcast([value], from_process=0)[0]

    def main_first(self) -> contextlib.AbstractContextManager[Any]:
        """Let the main process go through a block before the others.

        Returns
        -------
        context manager
        """
        value: contextlib.AbstractContextManager[Any] = self._accelerator.main_process_first()
        return value


def find_backend(config: TrainConfig) -> Backend:
    """Return the backend that the configuration and the environment ask for.

    Parameters
    ----------
    config : TrainConfig

    Returns
    -------
    Backend

    Raises
    ------
    DeviceError
        Where the device is not there.
    """
    device = resolve_device(config.device)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return DistributedBackend(device, config)
    return Backend(device, config)


def _precision(asked: str, device: torch.device) -> torch.dtype | None:
    if asked == "auto":
        if device.type != "cuda":
            return None
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}[asked]
