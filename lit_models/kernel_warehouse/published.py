"""The papers' plans: which module draws from which warehouse, in the order of reservation.

Each function returns module name to warehouse name for `make_plan`, with timm's module names.
"""

from collections.abc import Sequence

MOBILENET_V2_DEPTHS = (1, 2, 3, 4, 3, 3, 1)
_MOBILENET_V2_STAGES = (1, 2, 3, 4, 5, 6, 6)


def resnet_warehouses(depths: Sequence[int], bottleneck: bool) -> dict[str, str]:
    """One warehouse for each of a ResNet's stages; stem and classifier stay static.

    A stage hands its warehouse over to the first block of the next stage: that block's first
    convolution and its shortcut convolution draw from it. A bottleneck network's first block of all
    has nobody to inherit from, so its first and its shortcut convolution stay static.

    Args:
        depths: Blocks of each stage.
        bottleneck: True for blocks of three convolutions.
    """
    convs = ["conv1", "conv2", "conv3"] if bottleneck else ["conv1", "conv2"]
    draws_from: dict[str, str] = {}
    for stage, depth in enumerate(depths):
        for block in range(depth):
            place = f"layer{stage + 1}.{block}"
            if block == 0 and stage > 0:
                draws_from[f"{place}.downsample.0"] = f"stage{stage - 1}"
                draws_from[f"{place}.conv1"] = f"stage{stage - 1}"
            elif block > 0 or not bottleneck:
                draws_from[f"{place}.conv1"] = f"stage{stage}"
            draws_from |= {f"{place}.{conv}": f"stage{stage}" for conv in convs[1:]}
    return draws_from


def convnext_warehouses(depths: Sequence[int]) -> dict[str, str]:
    """All of a ConvNeXt but its head: stem and downsampling by themselves, two for each stage.

    A stage's depthwise convolutions share one warehouse, all its pointwise ones another.

    Args:
        depths: Blocks of each stage.
    """
    draws_from = {"stem.0": "stem"}
    for stage in range(1, len(depths)):
        draws_from[f"stages.{stage}.downsample.1"] = f"downsample{stage - 1}"
    for stage, depth in enumerate(depths):
        for block in range(depth):
            place = f"stages.{stage}.blocks.{block}"
            draws_from[f"{place}.conv_dw"] = f"stage{stage}_dw"
            draws_from[f"{place}.mlp.fc1"] = f"stage{stage}_pw"
            draws_from[f"{place}.mlp.fc2"] = f"stage{stage}_pw"
    return draws_from


def mobilenet_v2_warehouses(pointwise_together: bool) -> dict[str, str]:
    """All of a MobileNetV2 but its classifier; the stem has a warehouse of its own.

    Stages are the widths 16, 24, 32, 64, 96 and 160 with 320. The first block of a stage draws from
    the warehouses of the stage before. The last convolution belongs to the last stage.

    Args:
        pointwise_together: Whether the expanding and the projecting pointwise convolutions of a
            stage share a warehouse (the 1x rows) or have one each (the 4x rows).
    """
    draws_from = {"conv_stem": "stem"}
    for module, stage, kind in _mobilenet_v2_modules():
        shared = kind[:2] if pointwise_together else kind
        draws_from[module] = f"stage{stage}_{shared}"
    return draws_from


def mobilenet_v2_half_warehouses() -> dict[str, str]:
    """The 1/2x rows' own: static pointwise convolutions up to stage 5, a dynamic classifier."""
    draws_from = {"conv_stem": "stem"}
    for module, stage, kind in _mobilenet_v2_modules():
        if kind == "dw" or stage == 6:
            draws_from[module] = f"stage{stage}_{kind}"
    return {**draws_from, "classifier": "classifier"}


def deit_warehouses(depth: int) -> dict[str, str]:
    """One warehouse for all linear layers in the blocks of a DeiT.

    Inferred: for DeiT the authors released neither code nor plan nor counts. As in their other
    networks, a stage (here all blocks: they have one width) shares; embedding and head are static.

    Args:
        depth: Number of blocks.
    """
    linears = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
    return {f"blocks.{i}.{linear}": "blocks" for i in range(depth) for linear in linears}


def _mobilenet_v2_modules() -> list[tuple[str, int, str]]:
    """Return (module, stage whose warehouses it draws from, kind) for all but stem and classifier.

    Kinds: "dw" depthwise, "pw0" expanding, "pw1" projecting.
    """
    modules = []
    last_stage = _MOBILENET_V2_STAGES[0]
    for group, (depth, own_stage) in enumerate(
        zip(MOBILENET_V2_DEPTHS, _MOBILENET_V2_STAGES, strict=True)
    ):
        convs = {"conv_pw": "pw0", "conv_dw": "dw", "conv_pwl": "pw1"}
        if group == 0:  # does not expand
            convs = {"conv_dw": "dw", "conv_pw": "pw1"}
        for block in range(depth):
            stage = last_stage if block == 0 else own_stage
            modules += [
                (f"blocks.{group}.{block}.{conv}", stage, kind) for conv, kind in convs.items()
            ]
        last_stage = own_stage
    return [*modules, ("conv_head", last_stage, "pw1")]
