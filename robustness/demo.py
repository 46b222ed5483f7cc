"""The embedded example: scikit-learn's scanned digits and two small networks trained on them.

`python -m assaymark.robustness.demo` trains both again and writes the weights beside this file:
"digits" plainly, "digits-hardened" on PGD examples (https://arxiv.org/abs/1706.06083).
"""

from importlib.resources import as_file, files
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from assaymark.reports.errors import InputError, nearest
from assaymark.robustness.types import Images, Labels

NAMES = ("digits", "digits-hardened")
TRAIN_EPS = 0.15
_TEST_FROM = 1200


def network() -> nn.Sequential:
    """8×8 grey images in [0, 1] to 10 logits; 47,354 weights."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 32, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


def weights(name: str) -> Path:
    """The shipped weights of a demo network."""
    if name not in NAMES:
        raise InputError(f'no demo model "{name}"{nearest(name, NAMES)}')
    with as_file(files("assaymark.robustness") / f"demo_{name}.safetensors") as path:
        return path


def digits(*, train: bool = False) -> tuple[Images, Labels]:
    """597 test (or 1,200 training) scans of handwritten digits, 1×8×8 in [0, 1].

    The last third of scikit-learn's order; its writers are not those of the training part.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.from_numpy(bunch.images).float().div(16).unsqueeze(1)
    labels = torch.from_numpy(bunch.target).long()
    part = slice(None, _TEST_FROM) if train else slice(_TEST_FROM, None)
    return images[part].contiguous(), labels[part].contiguous()


def train(*, hardened: bool, epochs: int = 60, seed: int = 0) -> nn.Sequential:
    """Train a demo network on the CPU; the same seed gives the same weights on one machine."""
    from assaymark.robustness.gradient_steps import pgd

    torch.manual_seed(seed)
    x, y = digits(train=True)
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, epochs * 19)
    for _ in range(epochs):
        for batch in torch.randperm(len(x)).split(64):
            images, labels = x[batch], y[batch]
            if hardened:
                images = pgd(
                    model, images, labels, eps=TRAIN_EPS, steps=7, random_start=True
                ).detach()
            optimizer.zero_grad()
            cross_entropy(model(images), labels).backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def main() -> None:
    from safetensors.torch import save_file

    for name in NAMES:
        model = train(hardened=name == "digits-hardened")
        x, y = digits()
        with torch.no_grad():
            accuracy = float((model(x).argmax(1) == y).float().mean())
        path = Path(__file__).with_name(f"demo_{name}.safetensors")
        save_file(model.state_dict(), path)
        print(f"{path.name}: {accuracy:.3f} of {len(x)} test digits right")


if __name__ == "__main__":
    main()
