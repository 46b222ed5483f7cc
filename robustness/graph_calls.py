"""What torch executes while a model runs, written down: operations that depend on the image."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_iter, tree_unflatten


@dataclass(frozen=True)
class Read:
    """Stands in a recorded call for a tensor that depends on the image."""

    number: int


@dataclass(frozen=True, kw_only=True)
class Call:
    """One output of one operation that reads something which depends on the image."""

    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    answer: int
    """Which of its outputs the value is."""
    shape: torch.Size


class Recorder(TorchDispatchMode):
    """Writes down each operation that reads something which depends on the image."""

    def __init__(self, x: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.numbers = {id(x): 0}
        self.kept: list[Tensor] = [x]  # the id of a tensor that is gone may be given again
        self.calls: list[Call] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        kwargs = kwargs or {}
        read = any(id(leaf) in self.numbers for leaf in tree_iter((args, kwargs)))
        if not read:
            return func(*args, **kwargs)
        leaves, shape = tree_flatten((args, kwargs))
        arguments, keywords = tree_unflatten([self._held(leaf) for leaf in leaves], shape)
        result = func(*args, **kwargs)
        outputs = result if isinstance(result, tuple | list) else (result,)
        for i, output in enumerate(outputs):
            tensor = isinstance(output, Tensor)
            self.calls.append(
                Call(
                    name=func.overloadpacket.__name__,
                    function=func,
                    arguments=tuple(arguments),
                    keywords=keywords,
                    answer=i,
                    shape=output.shape if tensor else torch.Size(),
                )
            )
            if tensor:
                self.kept.append(output)
                self.numbers[id(output)] = len(self.calls)
        return result

    def shape(self, number: int) -> torch.Size:
        """Of the value with a number; 0 is the image."""
        return self.calls[number - 1].shape if number else self.kept[0].shape

    def _held(self, leaf: object) -> object:
        if not isinstance(leaf, Tensor):
            return leaf
        if id(leaf) in self.numbers:
            return Read(self.numbers[id(leaf)])
        return leaf.detach().double() if leaf.is_floating_point() else leaf.detach()


def reads(call: Call) -> tuple[int, ...]:
    """The numbers of the values that a call reads."""
    leaves = tree_iter((call.arguments, call.keywords))
    return tuple(leaf.number for leaf in leaves if isinstance(leaf, Read))
