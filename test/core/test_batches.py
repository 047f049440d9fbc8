"""Prompts in batches under a memory that does not suffice: the failure is torch's own error, raised above a size."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch

from sparsematch_ros.errors import SparsematchError
from sparsematch_ros.segmentation.batches import PromptBatches

CPU = torch.device("cpu")


def memory_for(most: int, asked: list[int] | None = None) -> Callable[[slice], list[int]]:
    """Answer each prompt with its number, as long as no more than `most` are asked at once."""

    def ask(rows: slice) -> list[int]:
        if asked is not None:
            asked.append(rows.stop - rows.start)
        if rows.stop - rows.start > most:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 7.00 GiB.")
        return list(range(rows.start, rows.stop))

    return ask


def joined(parts: list[list[int]]) -> list[int]:
    return [number for part in parts for number in part]


def test_a_batch_too_large_is_halved_once_and_the_size_stays() -> None:
    batches, asked = PromptBatches(16, CPU), []
    with pytest.warns(UserWarning, match="cpu: out of memory with 16 prompts a call, 8 from now on") as caught:
        assert joined(batches.run(50, 64, memory_for(10, asked))) == list(range(50))
    assert len(caught) == 1
    assert asked == [16, 8, 8, 8, 8, 8, 8, 2]
    assert batches.size == 8
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert joined(batches.run(20, 64, memory_for(10))) == list(range(20))


@pytest.mark.parametrize(
    ("count", "size", "most"), [(0, 5, 5), (1, 1, 1), (7, 16, 3), (70, 0, 5), (9, 3, 40), (9, 2, 1)]
)
def test_every_prompt_is_answered_once_and_in_order(count: int, size: int, most: int) -> None:
    batches = PromptBatches(size, CPU)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert joined(batches.run(count, 64, memory_for(most))) == list(range(count))
        first = len(caught)
        assert joined(batches.run(count, 64, memory_for(most))) == list(range(count))
    assert len(caught) == first  # What was learnt holds for the next run.
    assert not count or min(batches.size, count) <= most


def test_memory_that_ends_in_the_middle() -> None:
    """Other work takes memory after the first batch: what is done stays done, the rest comes in smaller ones."""
    batches, calls = PromptBatches(8, CPU), []

    def ask(rows: slice) -> list[int]:
        calls.append(rows)
        return memory_for(8 if len(calls) == 1 else 3)(rows)

    with pytest.warns(UserWarning, match="out of memory"):
        assert joined(batches.run(20, 64, ask)) == list(range(20))
    assert batches.size == 2


def test_one_prompt_that_does_not_fit_is_an_error_with_the_device() -> None:
    with (
        pytest.warns(UserWarning, match="out of memory"),
        pytest.raises(SparsematchError, match=r"cpu: out of memory with one prompt; a smaller model\.input_size"),
    ):
        PromptBatches(4, CPU).run(9, 64, memory_for(0))


def test_the_hosts_own_failure_counts_too() -> None:
    """An allocation of a million gigabytes fails on every machine: that is torch's own message."""

    def ask(rows: slice) -> list[int]:
        torch.empty(((rows.stop - rows.start) // 4, 10**15), dtype=torch.uint8)
        return list(range(rows.start, rows.stop))

    batches = PromptBatches(8, CPU)
    with pytest.warns(UserWarning, match="cpu: out of memory with") as caught:
        assert joined(batches.run(9, 64, ask)) == list(range(9))
    assert (len(caught), batches.size) == (2, 2)  # From 8 to 4 to 2.


def test_other_errors_pass() -> None:
    def ask(rows: slice) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    batches = PromptBatches(4, CPU)
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        batches.run(9, 64, ask)
    assert batches.size == 4


def test_a_size_is_chosen_where_none_is_given() -> None:
    batches, asked = PromptBatches(0, CPU), []
    assert joined(batches.run(100, 4096, memory_for(1000, asked))) == list(range(100))
    assert batches.size > 0 and max(asked) == batches.size


def test_what_was_learnt_counts_image_tokens() -> None:
    """Memory that held 8 prompts of 64 tokens holds 2 of 256, and the 16 that were wanted of 16."""
    batches, asked = PromptBatches(16, CPU), []
    with pytest.warns(UserWarning, match="out of memory"):
        batches.run(16, 64, memory_for(8))
    batches.run(4, 256, memory_for(2, asked))
    batches.run(16, 16, memory_for(16, asked))
    assert asked == [2, 2, 16]
