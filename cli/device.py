"""The one place that chooses a device."""

from assaymark.reports.errors import InputError


def choose(name: str) -> str:
    """`auto` is cuda, then mps, then cpu; a named device must be there."""
    import torch

    usable = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return next(device for device, there in usable.items() if there)
    kind = name.split(":")[0]
    if kind not in usable:
        raise InputError(f'unknown device "{name}": expected auto, {", ".join(usable)} or cuda:N')
    if not usable[kind]:
        raise InputError(
            f"no {kind} device works here (torch {torch.__version__}): use --device cpu"
        )
    if ":" in name and (
        kind != "cuda" or int(name.split(":")[1] or 0) >= torch.cuda.device_count()
    ):
        raise InputError(f'no device "{name}": {torch.cuda.device_count()} CUDA devices are here')
    return name
