"""Networks of others beside their published operations, written out slowly or by another library."""

import re
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image
from published_networks import (
    IMAGENET,
    aasist,
    centre_crop,
    drawn,
    halved_and_doubled,
    linear,
    mel_filters,
    norm,
    pixels,
    resnet,
    tiny_ladeda,
    to_tensor,
)
from torch.nn import functional

from assaymark.provenance.aasist import KINDS, Aasist, band_passes, load_aasist, repeated
from assaymark.provenance.clip_vision import ClipVision, central, vision_weights
from assaymark.provenance.cnn_detection import CnnDetection
from assaymark.provenance.image_tensors import CLIP, as_images, normalised
from assaymark.provenance.npr_detector import Npr
from assaymark.provenance.tiny_ladeda import TinyLaDeDa, diagonal, stretched
from assaymark.provenance.trufor import Decoder, TruFor, statistics
from assaymark.provenance.trufor_encoder import Fusion, Rectification, TwoBranches
from assaymark.provenance.univfd import UnivFd
from assaymark.reports.errors import InputError


def close(ours: torch.Tensor, theirs: torch.Tensor, tolerance: float = 2e-5) -> bool:
    assert ours.shape == theirs.shape
    scale = max(1.0, float(theirs.detach().abs().max()))
    return float((ours - theirs).detach().abs().max()) <= tolerance * scale


def test_npr_is_the_published_residual_and_two_stages() -> None:
    levels = pixels(38, 46)
    network = drawn(Npr())
    x = to_tensor(levels)
    state = network.get_submodule("network").state_dict()
    theirs = resnet(state, (x - halved_and_doubled(x)) * 2.0 / 3.0, (3, 4), 3, "fc1")
    assert close(network(as_images(levels)), theirs[:, 0])
    assert sum(value.numel() for value in network.parameters()) == 1_437_761


def test_a_last_odd_row_and_column_do_not_count() -> None:
    network, levels = drawn(Npr()), pixels(32, 32)
    odd = numpy.pad(levels, ((0, 1), (0, 1), (0, 0)), constant_values=255)
    assert torch.equal(network(as_images(odd)), network(as_images(levels)))


def test_cnndetection_is_resnet_50_with_one_output() -> None:
    levels = pixels(40, 64)
    network = drawn(CnnDetection())
    state = network.get_submodule("network").state_dict()
    assert close(
        network(as_images(levels)), resnet(state, to_tensor(levels), (3, 4, 6, 3), 7, "fc")[:, 0]
    )
    assert sum(value.numel() for value in network.parameters()) == 23_508_032 + 2049


@pytest.mark.parametrize("gradient", ["npr", "right_diag"])
def test_tiny_ladeda_is_the_mean_of_its_patches(gradient: str) -> None:
    network = drawn(TinyLaDeDa(gradient))  # type: ignore[arg-type]
    levels = pixels(60, 90)
    resized = Image.fromarray(levels).resize((256, 256), Image.Resampling.BILINEAR)
    assert numpy.array_equal(stretched(levels), numpy.asarray(resized))
    x = normalised(as_images(numpy.asarray(resized)), IMAGENET)
    if gradient == "npr":
        x = x - halved_and_doubled(x)
    else:
        padded = functional.pad(x, (1, 1, 1, 1))
        there = ((-2, 0, 0), (-1, 0, 1), (-1, 1, 0), (1, 1, 2), (1, 2, 1), (2, 2, 2))
        terms = [w * padded[:, :, i : i + 256, j : j + 256] for w, i, j in there]
        x = torch.stack(terms).sum(0)
    assert close(network(as_images(stretched(levels))), tiny_ladeda(network.state_dict(), x)[:, 0])
    assert sum(value.numel() for value in network.parameters()) == 1297
    # PIL rounds to 8 bits after each of the two directions, the network does not
    within = functional.interpolate(as_images(levels), (256, 256), mode="bilinear", antialias=True)
    assert float((within - as_images(stretched(levels))).abs().max()) <= 1 / 255


def test_a_derivative_along_the_diagonal_sees_no_constant() -> None:
    assert float(diagonal(torch.full((1, 3, 9, 9), 0.7))[..., 1:-1, 1:-1].abs().max()) < 1e-6


@pytest.mark.parametrize("size", [(300, 201), (100, 500), (224, 224), (225, 227), (31, 40)])
def test_the_middle_is_cut_as_torchvision_cuts_it(size: tuple[int, int]) -> None:
    levels = pixels(*size)
    assert torch.equal(central(as_images(levels), 224), as_images(centre_crop(levels, 224)))


@pytest.mark.long
def test_clip_is_that_of_transformers_under_either_name() -> None:
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=224,
        patch_size=56,
        projection_dim=24,
    )
    theirs = drawn(CLIPVisionModelWithProjection(config))
    ours = ClipVision(width=128, layers=2, patch=56, side=224, out=24)
    found = vision_weights(theirs.state_dict())
    ours.load_state_dict(found)
    again = vision_weights(
        {f"visual.{key}": value.half() for key, value in found.items()}
        | {"logit_scale": found["proj"]}
    )
    assert again.keys() == found.keys()
    levels = pixels(150, 260)
    x = to_tensor(centre_crop(levels, 224), CLIP)
    embedding = theirs(pixel_values=x).image_embeds
    assert close(ours.eval()(x), embedding, 1e-4)
    detector = UnivFd(ours)
    head = drawn(detector.fc).state_dict()
    answer = embedding @ head["weight"].T + head["bias"]
    assert close(detector(as_images(levels)), answer[:, 0], 1e-4)


@pytest.mark.long
def test_the_encoder_of_trufor_is_segformer_b2() -> None:
    from transformers import SegformerConfig, SegformerModel

    theirs = SegformerModel(
        SegformerConfig(
            depths=[3, 4, 6, 3], hidden_sizes=[64, 128, 320, 512], decoder_hidden_size=768
        )
    )
    for name, part in theirs.named_modules():
        if (
            isinstance(part, torch.nn.LayerNorm)
            and "patch_embeddings" not in name
            and "self" not in name
        ):
            part.eps = 1e-6
    drawn(theirs)
    ours = drawn(TwoBranches())
    for side in ("", "extra_"):
        _copy_segformer(theirs.state_dict(), ours.state_dict(), side)
    x = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    wanted = [part.detach() for part in theirs(x, output_hidden_states=True).hidden_states][-4:]
    for side in ("", "extra_"):
        y = x
        for i in range(4):
            y = ours._stage(side, i + 1, y)  # type: ignore[operator]
            assert close(y, wanted[i], 2e-4), (side, i)


def _copy_segformer(
    theirs: dict[str, torch.Tensor], ours: dict[str, torch.Tensor], side: str
) -> None:
    parts = {
        "norm1": "layernorm_before",
        "attn.q": "attention.q_proj",
        "attn.proj": "attention.o_proj",
        "attn.sr": "attention.sequence_reduction.sequence_reduction",
        "attn.norm": "attention.sequence_reduction.layer_norm",
        "norm2": "layernorm_after",
    }
    used = set()
    for name, value in ours.items():
        first, _, rest = name.removeprefix(side).partition(".")
        if not name.startswith(side) or not re.fullmatch(r"(patch_embed|block|norm)\d", first):
            continue
        at = f"stages.{int(first[-1]) - 1}"
        if first.startswith("norm"):
            names = [f"{at}.layer_norm.{rest}"]
        elif first.startswith("patch"):
            names = [f"{at}.patch_embeddings.{rest.replace('norm', 'layer_norm')}"]
        else:
            block, _, rest = rest.partition(".")
            part, _, kind = rest.rpartition(".")
            each = ("k_proj", "v_proj") if part == "attn.kv" else (parts.get(part, part),)
            prefix = "attention." if part == "attn.kv" else ""
            names = [f"{at}.blocks.{block}.{prefix}{one}.{kind}" for one in each]
        value.copy_(torch.cat([theirs[one] for one in names]))
        used.update(names)
    assert used == theirs.keys()


def test_branches_mend_and_join_each_other_as_cmx_says() -> None:
    draw = torch.Generator().manual_seed(2)
    one, two = (torch.randn(1, 10, 3, 4, generator=draw) for _ in range(2))
    mend = drawn(Rectification(10))
    state = mend.state_dict()
    both = torch.cat([one, two], 1)[0]
    pooled = torch.cat([both.flatten(1).mean(1), both.flatten(1).max(1).values])
    hidden = linear(state, "channel_weights.mlp.0", pooled).clamp(min=0)
    channel = linear(state, "channel_weights.mlp.2", hidden).sigmoid()
    mended = [one[0].clone(), two[0].clone()]
    for row in range(3):
        for column in range(4):
            cell = both[:, row, column]
            hidden = _pointwise(state, "spatial_weights.mlp.0", cell).clamp(min=0)
            place = _pointwise(state, "spatial_weights.mlp.2", hidden).sigmoid()
            mended[0][:, row, column] += 0.5 * (channel[10:] + place[1]) * two[0, :, row, column]
            mended[1][:, row, column] += 0.5 * (channel[:10] + place[0]) * one[0, :, row, column]
    for ours, theirs in zip(mend(one, two), mended, strict=True):
        assert close(ours[0], theirs)
    fuse = drawn(Fusion(10, 2))
    assert close(fuse(one, two)[0], _fused(fuse.state_dict(), one[0], two[0], heads=2))


def _pointwise(state: dict[str, torch.Tensor], name: str, x: torch.Tensor) -> torch.Tensor:
    return state[f"{name}.weight"][:, :, 0, 0] @ x + state[f"{name}.bias"]


def _fused(
    state: dict[str, torch.Tensor], one: torch.Tensor, two: torch.Tensor, heads: int
) -> torch.Tensor:
    """CMX, figure 5: cross-attention over channels of each head, then a residual convolution."""
    x = [one.flatten(1).T, two.flatten(1).T]
    width = x[0].shape[1]
    y, u = [], []
    context: list[list[torch.Tensor]] = []
    for i in (0, 1):
        halves = linear(state, f"cross.channel_proj{i + 1}", x[i]).clamp(min=0)
        y.append(halves[:, :width])
        u.append(halves[:, width:])
        kv = linear(state, f"cross.cross_attn.kv{i + 1}", u[i])
        part = width // heads
        context.append([])
        for h in range(heads):
            k, v = (
                kv[:, h * part : (h + 1) * part],
                kv[:, width + h * part : width + (h + 1) * part],
            )
            scores = k.T @ v / part**0.5
            context[i].append(scores.exp() / scores.exp().sum(0, keepdim=True))
    joint = []
    for i in (0, 1):
        part = width // heads
        seen = torch.cat(
            [u[i][:, h * part : (h + 1) * part] @ context[1 - i][h] for h in range(heads)], 1
        )
        z = x[i] + linear(state, f"cross.end_proj{i + 1}", torch.cat([y[i], seen], 1))
        scaled = (z - z.mean(1, keepdim=True)) / (
            z.var(1, keepdim=True, correction=0) + 1e-5
        ).sqrt()
        joint.append(scaled * state[f"cross.norm{i + 1}.weight"] + state[f"cross.norm{i + 1}.bias"])
    both = torch.cat(joint, 1).T.reshape(1, 2 * width, *one.shape[1:])
    at = "channel_emb.channel_embed"
    residual = functional.conv2d(both, state["channel_emb.residual.weight"])
    z = functional.conv2d(both, state[f"{at}.0.weight"], state[f"{at}.0.bias"])
    z = functional.conv2d(
        z, state[f"{at}.1.weight"], state[f"{at}.1.bias"], padding=1, groups=width
    ).clamp(min=0)
    z = norm(state, f"{at}.4", functional.conv2d(z, state[f"{at}.3.weight"], state[f"{at}.3.bias"]))
    return norm(state, "channel_emb.norm", residual + z)[0]


def test_statistics_of_a_map_are_what_they_say() -> None:
    x = torch.tensor([[1.0, -2.0, 4.0]])
    weight = torch.tensor([[0.2, 0.3, 0.5]])
    got = statistics(x, weight.log() + 7.0)[0]  # weights count by their proportions
    e = torch.e
    assert close(got[0], -torch.log(torch.tensor(0.2 * e**-1 + 0.3 * e**2 + 0.5 * e**-4)))
    assert close(got[1], torch.log(torch.tensor(0.2 * e + 0.3 * e**-2 + 0.5 * e**4)))
    assert close(got[2], torch.tensor(0.2 - 0.6 + 2.0))
    assert close(got[3], torch.tensor(0.2 + 1.2 + 8.0))


def test_maps_of_four_sizes_become_one() -> None:
    head = drawn(Decoder(2))
    draw = torch.Generator().manual_seed(3)
    maps = [
        torch.randn(1, width, 8 // 2**i, 12 // 2**i, generator=draw)
        for i, width in enumerate((64, 128, 320, 512))
    ]
    state = head.state_dict()
    parts = []
    for i in (3, 2, 1, 0):
        name = f"linear_c{i + 1}.proj"
        y = torch.einsum("bchw,oc->bohw", maps[i], state[f"{name}.weight"])
        y = y + state[f"{name}.bias"].view(1, -1, 1, 1)
        parts.append(functional.interpolate(y, (8, 12), mode="bilinear", align_corners=False))
    y = functional.conv2d(
        torch.cat(parts, 1), state["linear_fuse.0.weight"], state["linear_fuse.0.bias"]
    )
    y = norm(state, "linear_fuse.1", y).clamp(min=0)
    y = functional.conv2d(y, state["linear_pred.weight"], state["linear_pred.bias"])
    assert close(head(maps), y)


@pytest.fixture(scope="module")
def trufor() -> TruFor:
    with torch.device("meta"):
        network = TruFor()
    drawn(network.to_empty(device="cpu"))
    return network


def test_trufor_has_the_tensors_of_the_published_file(trufor: TruFor) -> None:
    """Counts that were published of trufor.pth.tar: 952 tensors, 25 of them whole numbers."""
    state = trufor.state_dict()
    assert len(state) == 952
    assert sum(value.numel() for value in state.values()) == 68_705_510
    assert sum(value.numel() for value in trufor.parameters()) == 68_697_421
    assert sum(value.dtype == torch.int64 for value in state.values()) == 25


def test_trufor_divides_by_256_and_joins_its_parts(trufor: TruFor) -> None:
    levels = pixels(45, 70)
    found = trufor.maps(as_images(levels))
    x = torch.from_numpy(levels.transpose(2, 0, 1)[None].astype(numpy.float32) / 256.0)
    noise = x
    for layer in trufor.dncnn:
        noise = layer(noise)
    assert close(found.noise, noise[:, 0])
    joint = trufor.backbone(normalised(x, IMAGENET), torch.cat([noise] * 3, 1))
    place, trust = (
        functional.interpolate(head(joint), (45, 70), mode="bilinear", align_corners=False)
        for head in (trufor.decode_head, trufor.decode_head_conf)
    )
    assert close(found.anomaly, place.exp()[:, 1] / place.exp().sum(1))
    assert close(found.confidence, 1 / (1 + (-trust[:, 0]).exp()))
    plain = statistics(trust.flatten(1), torch.zeros(1, 45 * 70))
    margin = (place[:, 1] - place[:, 0]).flatten(1)
    weighed = statistics(margin, functional.logsigmoid(trust).flatten(1))
    state = trufor.detection.state_dict()
    hidden = linear(state, "0", torch.cat([plain, weighed], 1)).clamp(min=0)
    assert close(found.logit, linear(state, "3", hidden)[:, 0], 1e-4)
    norms = {
        name: part.eps
        for name, part in trufor.named_modules()
        if isinstance(part, torch.nn.BatchNorm2d)
    }
    assert {name for name, eps in norms.items() if eps != 1e-5} == {"decode_head.linear_fuse.1"}


@pytest.mark.parametrize(
    "name", [pytest.param("AASIST", marks=pytest.mark.long), pytest.param("AASIST-L")]
)
def test_aasist_is_the_published_network(name: str) -> None:
    network = drawn(Aasist(KINDS[name]), seed=4)
    draw = torch.Generator().manual_seed(5)
    samples = 0.1 * torch.randn(1, 64_600, generator=draw)
    theirs = aasist(network.state_dict(), samples[0], KINDS[name].keep)
    assert close(network.outputs(samples)[0], theirs, 1e-4)  # type: ignore[operator]
    assert close(network(samples), (theirs[0] - theirs[1])[None], 1e-4)


def test_the_filters_of_aasist_are_evenly_spaced_in_mel() -> None:
    assert close(band_passes(), mel_filters(), 1e-6)
    response = torch.fft.rfft(band_passes()[:, 0], 16_000).abs()
    peaks = response.argmax(1)[
        5:
    ].double()  # a bin is one hertz; the lowest bands leak into each other
    mel = 2595 * torch.log10(1 + peaks / 700)
    step = 2595 * numpy.log10(1 + 8000 / 700) / 70
    assert float(((mel[1:-1] - mel[:-2]) / step - 1).abs().max()) < 0.5


@pytest.mark.parametrize("length", [1, 999, 32_300, 64_600, 70_000])
def test_short_speech_is_repeated(length: int) -> None:
    samples = torch.arange(length, dtype=torch.float32)
    copies = int(64_600 / length) + 1  # as in the published pad()
    assert torch.equal(repeated(samples), samples.repeat(copies)[:64_600])


def test_pieces_of_a_block_are_the_whole_block() -> None:
    block = drawn(Aasist(KINDS["AASIST-L"])).get_submodule("encoder.2.0")
    for length in (9, 1499, 1500, 1502, 3001):
        x = torch.randn(1, 32, 5, length, generator=torch.Generator().manual_seed(length))
        assert close(block(x), block.whole(x)), length  # type: ignore[operator]


@pytest.mark.parametrize("network", [Npr, CnnDetection, TruFor], ids=lambda kind: kind.__name__)
def test_a_picture_that_is_too_small_is_told(network: type[torch.nn.Module]) -> None:
    with (
        torch.device("meta"),
        pytest.raises(InputError, match=r"pictures of at least .* got 6 x 7"),
    ):
        network()(torch.zeros(1, 3, 7, 6))


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(KINDS))
def test_aasist_ranks_old_synthesis_above_real_speech(shared: Path, name: str) -> None:
    """Published: an equal error rate of 1 % or less on such synthesis (ASVspoof 2019 LA)."""
    import av

    def score(path: Path) -> float:
        with av.open(str(path)) as container:
            frames = [frame.to_ndarray() for frame in container.decode(audio=0)]
        samples = numpy.concatenate(frames, axis=1)[0].astype(numpy.float32) / 32768
        return float(network(repeated(torch.from_numpy(samples))[None])[0])

    network = load_aasist(shared / "models" / "detect" / "aasist" / f"{name}.pth")
    folder = shared / "data" / "detect" / "audio" / "native"
    real = [
        score(folder / f"real/librispeech_clean/librispeech_clean_{i:03}.flac") for i in range(8)
    ]
    fake = [score(folder / f"fake/espeak/espeak_{i:03}.flac") for i in range(8)]
    above = [one > other for one in fake for other in real]
    assert sum(above) / len(above) > 0.95


@pytest.mark.long
@pytest.mark.parametrize(("name", "parameters"), [("AASIST", 297_866), ("AASIST-L", 85_306)])
def test_published_weights_of_aasist_load(shared: Path, name: str, parameters: int) -> None:
    network = load_aasist(shared / "models" / "detect" / "aasist" / f"{name}.pth")
    assert sum(value.numel() for value in network.parameters()) == parameters
    samples = 0.05 * torch.randn(1, 64_600, generator=torch.Generator().manual_seed(6))
    theirs = aasist(network.state_dict(), samples[0], KINDS[name].keep)
    assert close(network.outputs(samples)[0], theirs, 1e-4)  # type: ignore[operator]
