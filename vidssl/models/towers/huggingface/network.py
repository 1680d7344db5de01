"""The network of a config, with random values or with weights of which every number is accounted for.

transformers fills what a file lacks with fresh values and leaves out what it does not know, with a table on the screen; it also renames
weights of older releases. Here the first two are errors, and the sum over what was loaded has to be that over the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from vidssl.errors import VidsslError
from vidssl.models.towers.huggingface.kinds import Kind, find_kind
from vidssl.models.weights import first_of

_TOLERANCE = 1e-9  # of sums of squares in float64 over the same numbers in another order


def build_network(config: Mapping[str, Any], source: str, kind: Kind | None = None) -> nn.Module:
    """The network with random values from torch's default generator.

    Args:
        config: of the model. source: named in errors. kind: a text tower's; None: the encoder that the config is of.

    Raises:
        VidsslError: for a config that makes none.
    """
    kind = kind or find_kind(config, source)
    import transformers

    with _made_of(config, source):
        network: nn.Module = getattr(transformers, kind.model)(_config(config, kind))
    return _without(network.to(torch.float32), kind)


def load_network(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], source: str, kind: Kind | None = None
) -> nn.Module:
    """The network with weights, named as in any release of transformers.

    Args:
        config: of the model.
        tensors: as in the file; those that `Kind.left_out` names are left out.
        source: named in errors.
        kind: as in `build_network`.

    Raises:
        VidsslError: naming the missing, unexpected and differently shaped weights, those that are not finite, and a sum that is
            another than in the file.
    """
    kind = kind or find_kind(config, source)
    import transformers

    left_out = re.compile(rf"(?:^|\.)(?:{kind.left_out})")
    given = {key: value for key, value in tensors.items() if not left_out.search(key)}
    broken = sorted(key for key, x in given.items() if x.is_floating_point() and not bool(x.isfinite().all()))
    if broken:
        raise VidsslError(f"{source}: {len(broken)} weights are not finite ({first_of(broken)})")
    expected = _sums(given.values())  # before the network takes the tensors for its own
    with _made_of(config, source), quiet():
        network, info = getattr(transformers, kind.model).from_pretrained(
            None,
            config=_config(config, kind),
            state_dict=dict(tensors),
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    own = len(network.state_dict())
    lacking = [key for key in info["missing_keys"] if not _unused(key, kind)]
    if lacking and len(lacking) >= own - len(kind.unused):
        raise VidsslError(
            f"{source}: weights of another model than {kind.model}: not one of its {own} is there"
        )
    shapes = [
        f"{key} {tuple(theirs)} instead of {tuple(ours)}" for key, theirs, ours in info["mismatched_keys"]
    ]
    parts = {
        "missing": sorted(lacking),
        "unexpected": sorted(key for key in info["unexpected_keys"] if not left_out.search(key)),
        "of another shape": sorted(shapes),
    }
    if any(parts.values()):
        words = "; ".join(f"{len(keys)} {name} ({first_of(keys)})" for name, keys in parts.items() if keys)
        raise VidsslError(f"{source}: weights do not fit {kind.model}: {words}")
    network = _without(network, kind)
    _check_sums(_sums(network.state_dict().values()), expected, source)
    return network


def _check_sums(found: tuple[int, float], given: tuple[int, float], source: str) -> None:
    """Whether the network holds the numbers of the file, whatever they are called there."""
    (count, total), (wanted, expected) = found, given
    if count != wanted or abs(total - expected) > _TOLERANCE * max(expected, 1.0):
        raise VidsslError(
            f"{source}: {wanted:,} numbers with a sum of squares of {expected:.6g} became {count:,} with {total:.6g}: this release of "
            "transformers loads these weights wrongly"
        )


def _sums(tensors: Iterable[Tensor]) -> tuple[int, float]:
    count, total = 0, 0.0
    for tensor in tensors:
        if tensor.is_floating_point():
            count += tensor.numel()
            total += float(tensor.double().square().sum())
    return count, total


def _config(config: Mapping[str, Any], kind: Kind) -> Any:
    from transformers import CONFIG_MAPPING

    whole = CONFIG_MAPPING[config["model_type"]](**_without_chance(config))
    if kind.section is None:
        return whole
    part = getattr(whole, kind.section)
    if "projection_dim" in config:  # a section may know another one, which is not heeded
        part.projection_dim = config["projection_dim"]
    return part


def _without_chance(config: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a config, such that a network in training draws nothing: views are what differs, the same on all processes."""
    steady: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            steady[key] = _without_chance(value)
        elif key != "model_type":
            steady[key] = 0.0 if "drop" in key and isinstance(value, float) else value
    if config.get("model_type") == "dinov3_vit":  # moves and scales its rotary positions
        steady |= dict.fromkeys(("pos_embed_shift", "pos_embed_jitter", "pos_embed_rescale"))
    return steady


def _unused(key: str, kind: Kind) -> bool:
    return key.split(".")[0] in kind.unused


def _without(network: nn.Module, kind: Kind) -> nn.Module:
    """The network without the parts that no feature needs."""
    for name in kind.unused:
        setattr(network, name, None)
    return network


@contextmanager
def _made_of(config: Mapping[str, Any], source: str) -> Iterator[None]:
    """Errors of a config in one line."""
    from huggingface_hub.errors import StrictDataclassError

    try:
        yield
    except (
        AttributeError,
        ImportError,
        KeyError,
        RuntimeError,
        StrictDataclassError,
        TypeError,
        ValueError,
    ) as error:
        raise VidsslError(
            f"{source}: no {config.get('model_type')} can be made of its config ({' '.join(str(error).split())[:200]})"
        ) from None


@contextmanager
def quiet() -> Iterator[None]:
    """Without the bars and tables of transformers: what does not fit is said in an error."""
    from transformers.utils import logging as untyped

    logging: Any = untyped
    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()
