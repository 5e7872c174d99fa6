"""All that Madrigal uses of transformers and PEFT beyond what they document is still there, and does what it did."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, Qwen2Config
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from fakes import tiny
from fakes.kin import MODELS, build
from madrigal.policies import internals
from madrigal.policies.local import LocalPolicy
from madrigal.settings import Lora

PINS = Path(__file__).parents[2] / "constraints.txt"


def test_the_versions_that_are_tested_are_those_that_it_was_written_against() -> None:
    pins = dict(line.split("==") for line in PINS.read_text().splitlines() if "==" in line)
    for name in ("transformers", "peft"):
        assert f"{name} {pins[name]}" in (internals.__doc__ or ""), "look through internals.py, then write the version"


def test_a_cache_layer_has_what_the_roomy_one_overrides() -> None:
    own = {name for name in vars(internals.RoomyLayer) if not name.startswith("_")} - {"room"}
    assert own == {"update", "batch_select_indices"} <= set(dir(DynamicLayer))
    for name in own:
        theirs, ours = (inspect.signature(getattr(kind, name)) for kind in (DynamicLayer, internals.RoomyLayer))
        positional = [p.name for p in ours.parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
        assert list(theirs.parameters)[: len(positional)] == positional
    layer = internals.RoomyLayer()  # type: ignore[no-untyped-call]
    assert not layer.is_initialized
    layer.update(torch.ones(1, 1, 3, 2), torch.ones(1, 1, 3, 2))
    assert layer.is_initialized and layer.get_seq_length() == layer.get_mask_sizes(1)[0] - 1 == 3
    assert "layers" in inspect.signature(Cache.__init__).parameters


@pytest.mark.parametrize("name", MODELS)
def test_layers_of_a_model_are_known_to_cache_and_gradient_checkpointing(policy: LocalPolicy, name: str) -> None:
    model, cache = build(policy, name), DynamicCache()
    assert len(internals.roomy_cache(model).layers) == len(internals.recomputable_layers(model)) == 3
    model(input_ids=torch.tensor([[5, 6, 7, 8]]), past_key_values=cache, use_cache=True)
    assert internals.keys_per_layer(cache) == [4] * 3


def test_the_window_of_a_model_is_that_of_its_narrowest_layer() -> None:
    assert internals.attention_window(LlamaConfig(num_hidden_layers=2)) == float("inf")
    config = Qwen2Config(num_hidden_layers=2, use_sliding_window=True, sliding_window=16, max_window_layers=1)
    assert internals.attention_window(config) == 16


def test_a_mask_of_four_dimensions_is_added_to_the_scores(policy: LocalPolicy) -> None:
    """One token read after a padded prompt, with either mask."""
    mask, logits = torch.tensor([[False, True, True], [True, True, True]]), []
    positions = (mask.cumsum(-1) - 1).clamp_min(0)
    added = internals.additive_mask(torch.cat([mask, mask[:, -1:]], dim=1), torch.float32)
    for last in (added, torch.cat([mask, mask[:, -1:]], dim=1).long()):
        cache = internals.roomy_cache(policy.model)
        tokens = torch.tensor([[5, 6, 7], [8, 9, 10]])
        policy.model(
            input_ids=tokens, attention_mask=mask.long(), position_ids=positions, past_key_values=cache, use_cache=True
        )
        logits.append(
            policy.model(
                input_ids=tokens[:, :1],
                attention_mask=last,
                position_ids=positions[:, -1:] + 1,
                past_key_values=cache,
                use_cache=True,
            ).logits
        )
    torch.testing.assert_close(*logits, atol=1e-5, rtol=1e-5)
    assert internals.additive_mask(torch.ones(2, 3, dtype=torch.bool), torch.float32) is None


# peft asks transformers by a name that the latter is about to drop.
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")
def test_an_adapter_in_the_layers_is_seen(model_folder: Path) -> None:
    assert not internals.has_adapter(tiny.load(model_folder).model)
    assert internals.has_adapter(tiny.load(model_folder, lora=Lora(rank=4)).model)


@pytest.mark.parametrize("shape", [(5, 7), (64, 48), (293, 33)])
def test_a_packed_weight_multiplies_as_it_did(shape: tuple[int, int]) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    assert internals.packed_weight(weight) is None  # float32
    packed = internals.packed_weight(weight.bfloat16())
    if packed is None:
        pytest.skip("this processor has no products in bfloat16")
    for rows in (1, 3, 40):
        x = torch.randn(rows, shape[1], generator=torch.Generator().manual_seed(rows)).bfloat16()
        expected = torch.nn.functional.linear(x.float(), weight.bfloat16().float()).bfloat16()
        torch.testing.assert_close(internals.packed_linear(x, packed, None), expected)
