"""A small network that looks at high-pass residuals only: RGB in [0, 1] to one logit, and one for each patch.

Fixed filters (second differences of Fridrich and Kodovsky 2012, of luma and of both colour differences)
take the content away; each is divided by its own mean size over the picture, so that contrast and exposure
say nothing. Learned 5 x 5 and 3 x 3 convolutions follow, with strides instead of pooling, and no layer
that sees more than 63 pixels: the logit is the mean of the patches', which is also the heat map
(Cavia et al., Real-Time Deepfake Detection in the Real World, 2024, section 3).
0.3 billion multiplications for 512 x 512 pixels. Every step has a gradient down to the pixels.
"""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from assaymark.reports.errors import InputError

SMALLEST = 64  # pixels a side: less than a patch sees
STRIDE = 8  # pixels between the middles of patches
MAX_WEIGHTS = 5 * 2**20  # bytes
_FLOOR = 0.5 / 255  # half a step of 8 bits: a flat picture stays flat

Images = Float[Tensor, "batch 3 height width"]

_ACROSS = ((0, 0, 0), (1, -2, 1), (0, 0, 0))
_DOWN = ((0, 1, 0), (0, -2, 0), (0, 1, 0))
_BOTH = ((-1, 2, -1), (2, -4, 2), (-1, 2, -1))
_CROSS = ((0, 1, 0), (1, -4, 1), (0, 1, 0))
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def _filters() -> Float[Tensor, "5 3 3 3"]:
    """Three residuals of luma, one of blue less luma, one of red less luma."""
    luma = torch.tensor(_LUMA)
    colours = (
        luma,
        luma,
        luma,
        torch.tensor([0.0, 0.0, 1.0]) - luma,
        torch.tensor([1.0, 0, 0]) - luma,
    )
    kernels = (_ACROSS, _DOWN, _BOTH, _CROSS, _CROSS)
    return torch.stack(
        [
            colour[:, None, None] * torch.tensor(kernel, dtype=torch.float32)
            for colour, kernel in zip(colours, kernels, strict=True)
        ]
    )


class ResidualNetwork(nn.Module):
    """Logit of "generated". widths: channels of the four learned layers."""

    filters: Tensor

    def __init__(self, widths: tuple[int, int, int, int] = (16, 24, 32, 48)) -> None:
        super().__init__()
        self.register_buffer("filters", _filters(), persistent=False)
        inputs = (5, *widths[:3])
        shapes = zip(inputs, widths, (5, 3, 3, 3), (2, 2, 2, 1), strict=True)
        self.layers = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(i, o, size, stride, size // 2, bias=False),
                    nn.BatchNorm2d(o),
                    nn.ReLU(),
                )
                for i, o, size, stride in shapes
            )
        )
        self.head = nn.Conv2d(widths[3], 1, 1)

    def residuals(self, images: Images) -> Float[Tensor, "batch 5 height-2 width-2"]:
        """Residuals in units of their mean size, softly limited to ±3."""
        rest = functional.conv2d(images, self.filters)
        size = rest.abs().mean((2, 3), keepdim=True) + _FLOOR
        return 3 * torch.tanh(rest / (3 * size))

    def patches(self, images: Images) -> Float[Tensor, "batch rows columns"]:
        """A logit for every patch, 8 pixels apart."""
        found: Tensor = self.head(self.layers(self.residuals(images)))
        return found[:, 0]

    def forward(self, images: Images) -> Float[Tensor, " batch"]:
        """Mean of the patches' logits."""
        return self.patches(images).mean((1, 2))


def load_network(path: Path) -> ResidualNetwork:
    """From safetensors of at most 5 MB; raises InputError for anything else."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        if path.stat().st_size > MAX_WEIGHTS:
            raise InputError(
                f"{path} has {path.stat().st_size:,} bytes: these weights have at most {MAX_WEIGHTS:,}"
            )
        tensors = load(path.read_bytes())
    except (OSError, SafetensorError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read as safetensors ({error}): give weights that detect train wrote"
        ) from error
    with torch.inference_mode(
        mode=False
    ):  # whoever loads it first may look only, the next may attack
        return _with({name: value.clone() for name, value in tensors.items()}, path)


def _with(tensors: dict[str, Tensor], path: Path) -> ResidualNetwork:
    try:
        widths = tuple(int(tensors[f"layers.{i}.0.weight"].shape[0]) for i in range(4))
        network = ResidualNetwork((widths[0], widths[1], widths[2], widths[3]))
        network.load_state_dict(tensors)
    except (KeyError, IndexError, RuntimeError) as error:
        raise InputError(
            f"{path} holds other tensors than a residual network's: "
            f"{str(error).splitlines()[0][:80]}; give weights that detect train wrote"
        ) from error
    if not all(bool(value.isfinite().all()) for value in network.state_dict().values()):
        raise InputError(f"{path} holds a weight that is no finite number: give other weights")
    return network.eval()


def save_network(network: nn.Module, path: Path) -> None:
    """As safetensors, in 32 bits, under a final name only when whole."""
    from safetensors.torch import save

    from assaymark.reports.files import write_atomically

    state = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    write_atomically(path, save(state))


def fused(network: ResidualNetwork) -> list[tuple[Tensor, Tensor, int]]:
    """Weight, bias and stride of every convolution, batch normalisation folded in (as in inference)."""
    found: list[tuple[Tensor, Tensor, int]] = []
    for layer in network.layers.children():
        convolution, norm, _ = layer.children()
        assert isinstance(convolution, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_var is not None
        assert norm.running_mean is not None
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        weight = convolution.weight * scale[:, None, None, None]
        bias = norm.bias - norm.running_mean * scale
        found.append((weight.detach(), bias.detach(), convolution.stride[0]))
    assert network.head.bias is not None
    return [*found, (network.head.weight.detach(), network.head.bias.detach(), 1)]


def write_onnx(network: ResidualNetwork, path: Path) -> None:
    """The same logits as ONNX (opset 17): input "images" of (batch, 3, height, width) in [0, 1], "logits".

    Raises InputError where the package onnx is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise InputError(
            "writing ONNX needs the package onnx: pip install assaymark[onnx]"
        ) from error
    from assaymark.reports.files import write_atomically

    model = onnx.helper.make_model(
        _graph(network), opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9
    )
    onnx.checker.check_model(model)
    write_atomically(path, model.SerializeToString())


def _graph(network: ResidualNetwork):  # type: ignore[no-untyped-def]
    import onnx
    from onnx import helper, numpy_helper

    constants = {
        "filters": network.filters,
        "floor": torch.tensor(_FLOOR),
        "three": torch.tensor(3.0),
    }
    node = helper.make_node
    nodes = [
        node("Conv", ["images", "filters"], ["rest"]),
        node("Abs", ["rest"], ["amount"]),
        node("ReduceMean", ["amount"], ["mean"], axes=[2, 3]),
        node("Add", ["mean", "floor"], ["size"]),
        node("Mul", ["size", "three"], ["limit"]),
        node("Div", ["rest", "limit"], ["share"]),
        node("Tanh", ["share"], ["soft"]),
        node("Mul", ["soft", "three"], ["layer0"]),
    ]
    layers = fused(network)
    for number, (weight, bias, stride) in enumerate(layers):
        constants |= {f"weight{number}": weight, f"bias{number}": bias}
        pad = weight.shape[-1] // 2
        names = [f"layer{number}", f"weight{number}", f"bias{number}"]
        nodes.append(node("Conv", names, [f"sum{number}"], strides=[stride] * 2, pads=[pad] * 4))
        if number < len(layers) - 1:
            nodes.append(node("Relu", [f"sum{number}"], [f"layer{number + 1}"]))
    nodes.append(
        node("ReduceMean", [f"sum{len(layers) - 1}"], ["logits"], axes=[1, 2, 3], keepdims=0)
    )
    describe = helper.make_tensor_value_info
    number_type = onnx.TensorProto.FLOAT
    return helper.make_graph(
        nodes,
        "residual_network",
        [describe("images", number_type, ["batch", 3, "height", "width"])],
        [describe("logits", number_type, ["batch"])],
        [numpy_helper.from_array(v.detach().cpu().numpy(), k) for k, v in constants.items()],
    )
