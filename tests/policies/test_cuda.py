"""What is written out, on a real GPU, against the library's own code there; skipped where there is none."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fakes.kin import MODELS, build
from madrigal.maths.batch import PrefixLevel, make_batch, prompt_levels
from madrigal.policies import decoders, forward, llama
from madrigal.policies.internals import output_logits
from madrigal.policies.local import LocalPolicy
from policies.test_reading import forest

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
GPU = torch.device("cuda")


@pytest.fixture(params=list(MODELS))
def model(request: pytest.FixtureRequest, policy: LocalPolicy) -> Any:
    size = {"hidden_size": 192} if request.param == "qwen2" else {"head_dim": 32}
    return build(policy, request.param, **size).to(GPU)


def test_steps_from_a_graph_give_the_logits_of_one_pass(model: Any) -> None:
    """With rows dropped on the way, until a whole prompt has gone and the groups are uneven."""
    torch.manual_seed(0)
    texts, kept = torch.randint(5, 50, (7, 30), device=GPU), torch.arange(7, device=GPU)
    prompt_of = torch.tensor([0, 0, 1, 1, 2, 2, 2], device=GPU)
    encoded = [tuple(texts[n, :10].tolist()) for n in (0, 2, 4)]
    texts[:, :10] = torch.tensor(encoded, device=GPU)[prompt_of]
    with torch.inference_mode():
        rows = decoders.decoder(model, prompt_levels(encoded, 0, GPU), prompt_of, 20)
        assert isinstance(rows, decoders.GraphDecoder)
        whole, captured = model(input_ids=texts).logits, 0
        for t in range(10, 30):
            torch.testing.assert_close(rows.logits, whole[kept, t - 1], atol=1e-4, rtol=1e-4)
            if t in (13, 26):
                keep = torch.tensor([0, 1, 3, 4, 6] if t == 13 else [2, 3], device=GPU)
                rows.select(keep)
                kept = kept[keep]
            rows.advance(texts[kept, t])
            captured += rows.graph is not None
    assert captured >= 16


def test_hidden_states_and_gradients_are_those_of_the_librarys_code(model: Any) -> None:
    batch, found = make_batch(forest(), 0, GPU), []
    assert llama.supports(model)
    for read in (forward.hidden_in_one_pass, forward.hidden_before_actions, forward.hidden_recomputed):
        logits = output_logits(model, read(model, batch))
        found.append((logits, *torch.autograd.grad(logits.tanh().sum(), list(model.parameters()))))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], atol=1e-3, rtol=1e-3)


def test_bfloat16_on_a_gpu_samples_what_it_learns(model: Any) -> None:
    """Log-probs of one step after another and of a whole text differ by rounding only."""
    model = model.to(torch.bfloat16)
    torch.manual_seed(0)
    texts = torch.randint(5, 50, (4, 24), device=GPU)
    encoded = [tuple(texts[0, :8].tolist())]
    texts[:, :8] = texts[0, :8]
    stepped, nothing = [], torch.zeros(4, dtype=torch.long, device=GPU)
    with torch.inference_mode():
        rows = decoders.decoder(model, prompt_levels(encoded, 0, GPU), nothing, 16)
        for t in range(8, 24):
            stepped.append(rows.logits.float().log_softmax(-1).gather(-1, texts[:, t, None]))
            rows.advance(texts[:, t])
    level = PrefixLevel(texts, torch.ones_like(texts, dtype=torch.bool), torch.arange(4, device=GPU))
    stream = llama.hidden_states(model, llama.read(model, [level]).stream).view(4, 24, -1)
    whole = output_logits(model, stream[:, 7:-1]).float().log_softmax(-1).gather(-1, texts[:, 8:, None])
    assert float((torch.cat(stepped, -1) - whole[..., 0]).abs().mean()) < 0.05
