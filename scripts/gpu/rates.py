"""Decode and update rates on a GPU, beside transformers' generate and what the card allows.

    python scripts/gpu/rates.py --shape qwen3-1.7b

Random weights, bfloat16; 8 prompts of 256 tokens with 8 answers each of 256 tokens. One JSON line per measurement.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

from madrigal.learning.learner import Learner
from madrigal.maths.losses import policy_gradient, sum_per_sequence
from madrigal.policies.generate import generate
from madrigal.policies.llama import pack
from madrigal.policies.local import LocalPolicy, load_tokenizer
from madrigal.settings import OptimizerConfig, Sampling
from madrigal.types import Completion, Message, Sample, Turn

NAMES = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
NAMES += ("num_key_value_heads", "head_dim")
SHAPES = {
    "qwen3-1.7b": (Qwen3ForCausalLM, Qwen3Config, (151936, 2048, 6144, 28, 16, 8, 128)),
    "smollm2-135m": (LlamaForCausalLM, LlamaConfig, (49152, 576, 1536, 30, 9, 3, 64)),
    "tiny": (Qwen3ForCausalLM, Qwen3Config, (8192, 64, 128, 2, 4, 2, 16)),  # to try the script on any machine
}
PROMPTS, WIDTH, READ = 8, 8, 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=list(SHAPES), default="qwen3-1.7b")
    parser.add_argument("--new", type=int, default=256)
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--only-ours", action="store_true", help="without transformers' generate")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device.type == "cuda" else "processor"
    dtype = getattr(torch, options.dtype)
    product, copy = ceilings(device, 8192 if device.type == "cuda" else 1024, dtype)
    report("ceilings", shape=options.shape, card=name, product_tflops=product / 1e12, copy_tb_s=copy / 1e12)
    policy = random_policy(options.shape, device, dtype)
    answers = decode(policy, options.new, product, copy)
    update(policy, answers, product)
    if not options.only_ours:
        theirs(policy, options.new)


def report(what: str, **numbers: Any) -> None:
    rounded = {key: round(value, 3) if isinstance(value, float) else value for key, value in numbers.items()}
    print(json.dumps({"measured": what, **rounded}), flush=True)


def seconds(work: Callable[[], object], device: torch.device, times: int) -> float:
    """The median of several runs, of which a processor makes one; another before them is not counted."""
    gpu = device.type == "cuda"
    clock, taken = time.perf_counter if gpu else time.process_time, []
    for _ in range((times if gpu else 1) + 1):
        began = clock()
        work()
        if gpu:
            torch.cuda.synchronize()
        taken.append(clock() - began)
    return median(taken[1:])


def ceilings(device: torch.device, size: int, dtype: torch.dtype) -> tuple[float, float]:
    """Products in operations per second, and copies in bytes read and written per second."""
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    product = 2 * size**3 * 10 / seconds(lambda: [a @ b for _ in range(10)], device, 3)
    large = torch.randn(size * size * 16, device=device, dtype=torch.bfloat16)
    other = torch.empty_like(large)
    return product, 10 * 2 * large.nbytes / seconds(lambda: [other.copy_(large) for _ in range(10)], device, 3)


def random_policy(shape: str, device: torch.device, dtype: torch.dtype) -> LocalPolicy:
    torch.manual_seed(0)
    kind, config, numbers = SHAPES[shape]
    settings: dict[str, Any] = {"tie_word_embeddings": True, "max_position_embeddings": 4096}
    with device:
        model = kind(config(**dict(zip(NAMES, numbers, strict=True)), **settings)).to(dtype).eval()
    pack(model)
    return LocalPolicy("policy", model, load_tokenizer("starter:small"), chat_template=False)


def decode(policy: LocalPolicy, new: int, product: float, copy: float) -> list[Completion]:
    """Ours, with the fewest bytes that every token must read: weights, each prompt's keys and values once, answers'."""
    generator = torch.Generator().manual_seed(0)
    texts = ["".join(chr(97 + int(n)) for n in torch.randint(26, (READ,), generator=generator)) for _ in range(PROMPTS)]
    prompts = [(Message("user", text),) for text in texts for _ in range(WIDTH)]
    sampling, found = Sampling(max_new_tokens=new), list[Completion]()

    def work() -> None:
        found[:] = generate(policy, prompts, range(len(prompts)), sampling, token_budget=1 << 30)

    taken = seconds(work, policy.device, 3)
    prefill = seconds(
        lambda: generate(policy, prompts, range(len(prompts)), Sampling(max_new_tokens=1)), policy.device, 3
    )
    config = policy.model.config
    key = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * policy.model.dtype.itemsize
    read = sum(len(ids) for ids in {one.prompt_ids for one in found})
    fewest = sum(p.nbytes for p in policy.model.parameters()) + key * (read + len(prompts) * new / 2)
    step = (taken - prefill) / max(1, new - 1)
    operations = 2 * len(prompts) * sum(p.numel() for p in policy.model.parameters() if p.ndim == 2)
    report(
        "decode",
        rows=len(prompts),
        prompt_tokens=read // PROMPTS,
        seconds=taken,
        prefill_seconds=prefill,
        tokens_per_second=sum(len(one.token_ids) for one in found) / taken,
        milliseconds_per_token=1000 * step,
        share_of_products=operations / step / product,
        share_of_bandwidth=fewest / step / copy,
    )
    return found


def theirs(policy: LocalPolicy, new: int) -> None:
    """transformers' generate on the same work."""
    ids = torch.randint(3, 400, (PROMPTS * WIDTH, READ), device=policy.device)

    def work() -> None:
        policy.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=True,
            top_k=0,
            max_new_tokens=new,
            min_new_tokens=new,
            pad_token_id=0,
        )

    taken = seconds(work, policy.device, 1)
    report("transformers generate", seconds=taken, tokens_per_second=ids.shape[0] * new / taken)


def update(policy: LocalPolicy, answers: list[Completion], product: float) -> None:
    """One optimizer step on all answers, for several micro-batches; operations as in 6 N per token, attention added."""
    policy.model.requires_grad_(True)
    config = policy.model.config
    turns = [Turn(agent="policy", round=0, prompt=(Message("user", "x"),), completion=one) for one in answers]
    samples = [Sample(turn, advantage=(-1.0) ** n, return_=0.0) for n, turn in enumerate(turns)]
    written = sum(len(one.token_ids) for one in answers)
    read = {one.prompt_ids for one in answers}
    matrices = sum(p.numel() for name, p in policy.model.named_parameters() if "layers" in name)
    seen = sum(len(ids) ** 2 / 2 for ids in read)
    seen += sum(len(o.token_ids) * (len(o.prompt_ids) + len(o.token_ids) / 2) for o in answers)
    operations = 6 * matrices * (sum(map(len, read)) + written) + 6 * written * config.vocab_size * config.hidden_size
    operations += 12 * config.num_hidden_layers * config.num_attention_heads * config.head_dim * seen
    gpu = policy.device.type == "cuda"
    for budget in (4096, 16384) if gpu else (4096,):
        for recompute in (False, True) if gpu else (False,):
            torch.cuda.reset_peak_memory_stats() if gpu else None
            learner = Learner(
                policy,
                OptimizerConfig(lr=1e-6, token_budget=budget, gradient_checkpointing=recompute, mismatch_tolerance=1e9),
                Sampling(max_new_tokens=1024),
            )
            found = dict[str, float]()

            def work(learner: Learner = learner, found: dict[str, float] = found) -> None:
                policy.version = samples[0].turn.completion.version
                found.update(
                    learner.update(
                        [samples],
                        lambda output, batch: sum_per_sequence(
                            policy_gradient(output.logprobs, batch.advantages), batch.mask, batch.weights
                        ),
                    )
                )

            taken = seconds(work, policy.device, 3)
            peak = torch.cuda.max_memory_allocated() / 1e9 if gpu else 0.0
            report(
                "update",
                token_budget=budget,
                recompute=recompute,
                seconds=taken,
                tokens=written,
                tflops=operations / taken / 1e12,
                share_of_products=operations / taken / product,
                peak_gb=peak,
                mismatch=found["logprob_mismatch"],
            )
            del learner


if __name__ == "__main__":
    main()
