"""Work in batches as large as memory allows: a batch that does not fit is halved, and that is remembered."""

import gc
from collections.abc import Callable, Sequence

import torch

_CPU_TOKENS = 1 << 9
_GPU_TOKENS = 1 << 15
_LOGITS = 1 << 30
"""At most so many numbers at once where each token of a batch needs a row of the vocabulary."""


class Batches:
    """How much goes into one forward pass of a model; learned as it runs.

    rows: at most so many sequences or packs at once; None limits tokens, padding included, and halves the
    limit when memory runs out.
    """

    def __init__(
        self,
        device: torch.device,
        vocabulary: int,
        rows: int | None = None,
        tokens: int | None = None,
    ) -> None:
        self.rows = rows
        self.tokens = tokens or min(
            _CPU_TOKENS if device.type == "cpu" else _GPU_TOKENS, _LOGITS // max(vocabulary, 1)
        )

    def run(
        self,
        lengths: Sequence[int],
        work: Callable[[list[int]], None],
        too_large: Callable[[int], None],
    ) -> None:
        """Call `work` with the numbers of the jobs of each batch, the longest first.

        lengths: of each job its tokens. too_large: called with a job that does not fit into memory alone.
        Errors other than a lack of memory are raised as they are.
        """
        waiting = sorted(range(len(lengths)), key=lambda at: -lengths[at])
        start = 0
        while start < len(waiting):
            longest = lengths[waiting[start]]
            batch = waiting[start : start + self._room(longest)]
            if _fits(work, batch):
                start += len(batch)
            elif len(batch) > 1:
                self.rows = len(batch) // 2 if self.rows else None
                self.tokens = len(batch) * longest // 2
            else:
                too_large(batch[0])
                start += 1

    def _room(self, longest: int) -> int:
        return self.rows or max(1, self.tokens // max(longest, 1))


def _fits(work: Callable[[list[int]], None], batch: list[int]) -> bool:
    try:
        work(batch)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    else:
        return True
    # not in the handler: the traceback would keep the tensors of the batch alive
    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()
    return False


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on a GPU or not."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error)
    return "can't allocate memory" in text or "not enough memory" in text  # DefaultCPUAllocator
