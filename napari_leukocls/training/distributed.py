"""Where a training runs: one device, or several processes that accelerate has started."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import broadcast_object_list
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
        """The network as it is trained."""
        return net

    def precision(self) -> contextlib.AbstractContextManager[Any]:
        """Context of the forward pass."""
        if self._dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self._dtype)

    def step(self, loss: torch.Tensor, optimiser: torch.optim.Optimizer, net: nn.Module, clip: float) -> None:
        """One step down the gradient of a loss."""
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
        """State of the gradient scaler, plain values."""
        return {} if self._scaler is None else self._scaler.state_dict()

    def load_scaler(self, state: dict[str, Any]) -> None:
        """Put the gradient scaler's state back."""
        if self._scaler is not None and state:
            self._scaler.load_state_dict(state)

    def any_true(self, mine: bool) -> bool:
        """Whether any process says yes."""
        return mine

    def same(self, value: Any) -> Any:
        """The main process's value, in all of them."""
        return value

    def main_first(self) -> contextlib.AbstractContextManager[Any]:
        """The main process goes through the block before the others."""
        return contextlib.nullcontext()


class DistributedBackend(Backend):
    """One of several processes that ``accelerate launch`` has started."""

    def __init__(self, device: str, config: TrainConfig) -> None:
        try:
            from accelerate import Accelerator
        except ImportError as error:
            raise DeviceError(
                "several processes need accelerate: pip install 'napari-leukocls[distributed]'."
            ) from error
        self._accelerator = Accelerator(cpu=device == "cpu")
        super().__init__(str(self._accelerator.device), config)
        self.rank = self._accelerator.process_index
        self.world = self._accelerator.num_processes

    def wrap(self, net: nn.Module) -> nn.Module:
        """The network with its gradients averaged over the processes."""
        ids = [self.device.index] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(net, device_ids=ids)

    def any_true(self, mine: bool) -> bool:
        """Whether any process says yes: the sum over the processes.

        Parameters
        ----------
        mine : bool
            The answer of this process.
        """
        flag = torch.tensor([float(mine)], device=self.device)
        return bool(self._accelerator.reduce(flag, "sum")[0] > 0)

    def same(self, value: Any) -> Any:
        """The main process's value, sent to all processes.

        Parameters
        ----------
        value : object
            Only that of the main process counts.
        """
        return broadcast_object_list([value], from_process=0)[0]

    def main_first(self) -> contextlib.AbstractContextManager[Any]:
        """The main process goes through the block before the others, which wait."""
        return self._accelerator.main_process_first()


def find_backend(config: TrainConfig) -> Backend:
    """Return the backend that the configuration and the environment ask for.

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
