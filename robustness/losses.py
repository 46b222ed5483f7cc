"""What an attacker climbs: losses of logits that grow as the attacker gets nearer to its goal."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy as _cross_entropy

from assaymark.robustness.types import Labels, Logits

Loss = Float[Tensor, " batch"]
_SPREAD = 10.0
_LEVEL = 20.0
_TINY = 1e-12


def fooled(logits: Logits, y: Labels, *, targeted: bool) -> Bool[Tensor, " batch"]:
    """Whether the attacker has what it wants: any other class, or class y when targeted."""
    hit: Tensor = logits.argmax(1) == y
    return hit if targeted else ~hit


def cross_entropy(logits: Logits, y: Labels) -> Loss:
    """The training loss, of logits as they are."""
    return _cross_entropy(logits, y, reduction="none")


def damped_cross_entropy(logits: Logits, y: Labels) -> Loss:
    """Cross-entropy of logits whose spread is brought to at most 10.

    The cross-entropy of a very confident model is flat in float32: its gradient would vanish, and
    the model look robust (https://arxiv.org/abs/1608.04644, section 6).
    """
    seen = logits.detach()
    spread = seen.amax(1, keepdim=True) - seen.amin(1, keepdim=True)
    return cross_entropy(logits * (_SPREAD / spread.clamp_min(_SPREAD)), y)


def log_odds(logits: Logits, y: Labels) -> Loss:
    """Logarithm of the odds against y.

    The cross-entropy is log(1 + exp(log_odds)), so both gradients point the same way, and this one
    does not vanish however confident the model is: the one to take where only its direction counts.
    """
    own = logits.gather(1, y[:, None]).squeeze(1)
    return logits.scatter(1, y[:, None], -torch.inf).logsumexp(1) - own


def level_log_odds(logits: Logits, y: Labels) -> Loss:
    """`log_odds` of logits whose spread is brought to 20, up or down.

    It does not depend on the scale of the logits, so an attack that needs a direction only finds the
    same one on a shy and on a very confident model.
    """
    seen = logits.detach()
    spread = seen.amax(1, keepdim=True) - seen.amin(1, keepdim=True)
    return log_odds(logits * (_LEVEL / spread.clamp_min(_TINY)), y)


def margin(logits: Logits, y: Labels) -> Loss:
    """How far the best other class is above y; above 0, y is not the answer."""
    own = logits.gather(1, y[:, None]).squeeze(1)
    others = logits.scatter(1, y[:, None], -torch.inf)
    return others.amax(1) - own


def advantage(logits: Logits, y: Labels, *, targeted: bool) -> Loss:
    """How far the attacker is ahead; above 0 it has what it wants, as `fooled` says."""
    return -margin(logits, y) if targeted else margin(logits, y)


def difference(logits: Logits, y: Labels, target: Labels) -> Loss:
    """How far class `target` is above y."""
    pair = torch.stack([target, y], 1)
    both = logits.gather(1, pair)
    return both[:, 0] - both[:, 1]


def dlr(logits: Logits, y: Labels) -> Loss:
    """Difference of logits ratio (https://arxiv.org/abs/2003.01690, equation 6).

    It needs the third largest logit; with two classes the margin stands in, undivided.
    """
    if logits.shape[1] < 3:
        return margin(logits, y)
    top = logits.topk(3, 1).values
    return margin(logits, y) / (top[:, 0] - top[:, 2] + _TINY)


def targeted_dlr(logits: Logits, y: Labels, target: Labels) -> Loss:
    """DLR towards one class (https://arxiv.org/abs/2003.01690, equation 7).

    It needs the fourth largest logit; with fewer classes the smallest one stands in.
    """
    classes = logits.shape[1]
    if classes < 3:
        return difference(logits, y, target)
    top = logits.topk(min(4, classes), 1).values
    below = top[:, 2:].mean(1)
    return difference(logits, y, target) / (top[:, 0] - below + _TINY)


def other_classes(logits: Logits, y: Labels) -> Int[Tensor, "batch others"]:
    """The classes beside y, the nearest to being answered first."""
    others = logits.scatter(1, y[:, None], -torch.inf)
    return others.argsort(stable=True, dim=1, descending=True)[:, :-1]
