"""How a step size shrinks over an attack."""

import math


def cosine(first: float, last: float, step: int, steps: int) -> float:
    """From `first` at step 0 to `last` at the end, as half a cosine (arXiv 1608.03983, equation 5).

    >>> [round(cosine(1.0, 0.1, step, 5), 3) for step in range(5)]
    [1.0, 0.868, 0.55, 0.232, 0.1]
    """
    share = step / max(steps - 1, 1)
    return last + (first - last) * (1 + math.cos(math.pi * share)) / 2
