"""Several processes at one training (`torchrun`): who is who, and the few sums and messages between them.

A team of one, `ALONE`, answers every question by itself, so that the rest of the room is written once.
Graphics cards talk through NCCL, processors through gloo; whatever lies on the CPU goes through gloo, texts
and one process' tensors as objects of PyTorch (pickled between our own processes alone, never on disk).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from scx_core.errors import ScxError

PATIENCE = 300  # seconds for the others within a step, or $SCX_PATIENCE; one that died is noticed at once
LONG_PATIENCE = timedelta(hours=12)  # while the leader measures or writes
VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Team:
    """This process among `size` that train together; rank 0 leads: it alone writes into the run's folder.

    Every method is called by all of them, in the same order. They raise ScxError when another one is gone.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    slow: Any = None  # process group with the long patience

    @property
    def leads(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    def part(self, n: int) -> slice:
        """This process' share of `n` things in a row."""
        ends = [n * rank // self.size for rank in (self.rank, self.rank + 1)]
        return slice(*ends)

    def rounds(self, things: Sequence[Any], most: int) -> Iterator[Sequence[Any]]:
        """This process' part of the things, at most so many at a time. All go through as many rounds, in
        which some may have nothing, so that they can speak between them."""
        for start in range(0, len(things), most * self.size):
            some = things[start : start + most * self.size]
            yield some[self.part(len(some))]

    def own(self, n_layers: int) -> list[int]:
        """The layers of this process when they are shared out. Raises ScxError when there are too few."""
        if n_layers < self.size:
            raise ScxError(
                f"{self.size} processes cannot share out {n_layers} layers.",
                "Start fewer, or let each of them take a part of the cells (parallel: data).",
            )
        return list(range(n_layers))[self.part(n_layers)]

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """The sum over all processes, in place."""
        if self.size > 1:
            with self._waiting():
                dist.all_reduce(values)
        return values

    def gathered(self, values_N: torch.Tensor) -> torch.Tensor:
        """The values of all processes end to end; their numbers may differ."""
        if self.size == 1:
            return values_N
        counts = self.total(self._mine(torch.tensor(len(values_N), device=values_N.device))).tolist()
        padded = values_N.new_zeros(max(1, *counts), *values_N.shape[1:])
        padded[: len(values_N)] = values_N
        out = [torch.empty_like(padded) for _ in counts]
        with self._waiting():
            dist.all_gather(out, padded)
        return torch.cat([part[:count] for part, count in zip(out, counts, strict=True)])

    def sum_gradients(self, weights: Sequence[torch.Tensor]) -> None:
        """Replace the gradients by their sums over all processes, in one message."""
        if self.size == 1:
            return
        grads = [torch.zeros_like(w) if w.grad is None else w.grad for w in weights]
        flat = self.total(torch.cat([grad.flatten() for grad in grads]))
        parts = flat.split([grad.numel() for grad in grads])
        for weight, part in zip(weights, parts, strict=True):
            weight.grad = part.view_as(weight)

    def led(self, tensors: Sequence[torch.Tensor]) -> None:
        """Overwrite the tensors with those of rank 0."""
        for tensor in tensors if self.size > 1 else ():
            with self._waiting():
                dist.broadcast(tensor.data, 0)

    def any(self, flag: bool) -> bool:
        """Whether it is so in any of them."""
        if self.size == 1:
            return flag
        return bool(self.total(torch.tensor(int(flag))))

    def text(self, mine: str) -> str:
        """Rank 0's text, for all."""
        if self.size == 1:
            return mine
        self.meet()  # the leader may have to work for it
        texts = [mine]
        with self._waiting():
            dist.broadcast_object_list(texts, 0, group=self.slow, device=torch.device("cpu"))
        return texts[0]

    def meet(self) -> None:
        """Wait until all are here, however long the leader takes."""
        if self.size > 1:
            with self._waiting():
                dist.barrier(group=self.slow)

    def collected(self, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """On rank 0 the tensors of all processes by name, on the CPU but for its own; elsewhere nothing."""
        if self.size == 1:
            return tensors
        mine = {} if self.leads else {name: t.detach().cpu() for name, t in tensors.items()}
        parts: list[dict[str, torch.Tensor]] | None = [{} for _ in range(self.size)] if self.leads else None
        with self._waiting():
            dist.gather_object(mine, parts, 0, group=self.slow)
        found = dict(tensors) if self.leads else {}
        for part in parts or ():
            found |= part
        return found

    def _mine(self, value: torch.Tensor) -> torch.Tensor:
        """A row with a place for each process, 0 in those of the others."""
        row = value.new_zeros(self.size)
        row[self.rank] = value
        return row

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        """A message that never comes, in words. PyTorch raises RuntimeError, whatever the cause is."""
        try:
            yield
        except RuntimeError as error:
            words = str(error).splitlines()[0][:200]
            this = f"(this is number {self.rank} of {self.size})"
            if "timed out" in words.lower() or "timeout" in words.lower():
                raise ScxError(
                    f"Another process of this training has not answered for {patience():g} s {this}: it is "
                    f"slower than that, or its computer cannot be reached: {words}",
                    "The last checkpoint is kept: start the run again. SCX_PATIENCE=SECONDS waits longer.",
                ) from error
            raise ScxError(
                f"Another process of this training has ended or does not answer {this}: {words}",
                "The last checkpoint is kept. See what the other one said, then start the run again.",
            ) from error


ALONE = Team()


def patience() -> float:
    """Seconds that a process waits for the others within a step. Raises ScxError for a wrong SCX_PATIENCE."""
    given = os.environ.get("SCX_PATIENCE", "")
    try:
        seconds = float(given or PATIENCE)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e7:
        raise ScxError(f"SCX_PATIENCE is '{given[:40]}'.", "Give seconds, such as 600, or leave it out.")
    return seconds


def launched() -> bool:
    """Whether `torchrun` started this process."""
    return all(name in os.environ for name in VARIABLES)


@contextmanager
def team(device: str = "auto") -> Iterator[Team]:
    """The processes that `torchrun` started; `ALONE` when it did not. `device` as in a job.

    Raises ScxError when there are fewer graphics cards than processes, or they cannot reach each other.
    """
    if not launched():
        yield ALONE
        return
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    local = int(os.environ.get("LOCAL_RANK", "0"))
    on_gpu = device != "cpu" and torch.cuda.is_available()
    if on_gpu:
        _check_cards(device)
        torch.cuda.set_device(local)
        # A rank that is gone ends the wait of the others with an error, and not with the end of the process.
        os.environ.setdefault("TORCH_NCCL_BLOCKING_WAIT", "1")
    try:
        limit = timedelta(seconds=patience())
        card: dict[str, Any] = {"device_id": torch.device("cuda", local)} if on_gpu else {}
        dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout=limit, **card)
        slow = dist.new_group(backend="gloo", timeout=LONG_PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise ScxError(
            f"The {size} processes could not be joined: {str(error).splitlines()[0][:200]}",
            "Start all of them with one torchrun, on computers that reach each other; where one has several "
            "networks, name the common one in GLOO_SOCKET_IFNAME (and NCCL_SOCKET_IFNAME).",
        ) from error
    try:
        yield Team(rank, size, local, slow)
    finally:
        dist.destroy_process_group()


def device_of(device: str, team: Team) -> str:
    """The device of this process: its own graphics card where the job runs on cards."""
    if team.size == 1 or device == "cpu" or not torch.cuda.is_available():
        return device
    return f"cuda:{team.local_rank}"


def _check_cards(device: str) -> None:
    here, cards = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count()
    if here > cards:
        raise ScxError(
            f"{here} processes were started on a machine with {cards} graphics cards.",
            "Start one for each card, or all of them on the processor with --device cpu.",
        )
    if ":" in device and here > 1:
        raise ScxError(
            f"{here} processes cannot share the device {device}.", "Use --device cuda: each takes its own."
        )
