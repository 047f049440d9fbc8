"""How many prompts a decoder call takes: as many as memory allows, learnt once."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable
from typing import TypeVar

import torch

from sparsematch_ros.errors import SparsematchError

Result = TypeVar("Result")
# On a CPU a batch that stays in its caches is faster than a larger one.
_CPU_BATCH = 8
# What a prompt needs an image token [bytes]: its copies of the keys, attention, and 16 drawn cells of 64 channels.
_BYTES_PER_TOKEN = 16 * 1024
_MEMORY_SHARE = 0.5
_MOST = 4096


class PromptBatches:
    """Runs prompts in batches; where memory does not suffice, in smaller ones from then on.

    Attributes:
        size: prompts in the last run's batches, 0 before it is known.

    """

    def __init__(self, size: int, device: torch.device) -> None:
        """Take the wanted size, 0 for what suits the device."""
        self.size = size
        self._wanted = size
        self._device = device
        # Prompts times image tokens that memory has been seen to hold at most.
        self._most_tokens: int | None = None

    def run(self, count: int, tokens: int, ask: Callable[[slice], Result]) -> list[Result]:
        """Give the answers of `ask` to prompts 0 to `count`, batch by batch.

        Args:
            count: prompts in all.
            tokens: image tokens that each prompt attends to, for the first guess of what memory holds.
            ask: answers a batch of prompts.

        Raises:
            SparsematchError: where memory does not suffice for one prompt.

        """
        self.size = self._wanted or self._first_guess(tokens)
        if self._most_tokens is not None:
            self.size = max(1, min(self.size, self._most_tokens // tokens))
        results: list[Result] = []
        position = 0
        while position < count:
            batch = slice(position, min(position + self.size, count))
            result = self._try(ask, batch)
            if result is None:
                self._halve(batch.stop - batch.start, tokens)
                continue
            results.append(result)
            position = batch.stop
        return results

    def _first_guess(self, tokens: int) -> int:
        if self._device.type != "cuda":
            return _CPU_BATCH
        free, _ = torch.cuda.mem_get_info(self._device)
        return int(min(max(free * _MEMORY_SHARE / (tokens * _BYTES_PER_TOKEN), 1), _MOST))

    def _try(self, ask: Callable[[slice], Result], batch: slice) -> Result | None:
        try:
            return ask(batch)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
        # Outside the handler, which would hold the failed call's tensors.
        return None

    def _halve(self, tried: int, tokens: int) -> None:
        if tried == 1:
            raise SparsematchError(
                f"{self._device}: out of memory with one prompt; a smaller model.input_size or another device is needed"
            )
        self.size = tried // 2
        self._most_tokens = self.size * tokens
        warnings.warn(
            f"{self._device}: out of memory with {tried} prompts a call, {self.size} from now on", stacklevel=3
        )
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


def out_of_memory(error: RuntimeError) -> bool:
    """Say whether torch failed for want of memory, on a GPU or on the host."""
    return isinstance(error, torch.cuda.OutOfMemoryError) or "can't allocate memory" in str(error)
