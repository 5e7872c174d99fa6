"""The writing tasks: what agents see, and how answers become rewards."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from fakes.data import DATA
from madrigal.rollouts.task import check_task
from madrigal.tasks.data import Source
from madrigal.tasks.writing.prompts import ArxivPrompts, TldrPrompts
from madrigal.tasks.writing.scores import ARXIV_EARLY, ARXIV_LATER, TLDR, score
from madrigal.tasks.writing.single import DELIMITER, split_parts
from madrigal.tasks.writing.task import Arxiv, ContentWeights, Tldr, WritingTask, arxiv_task, tldr_task
from madrigal.types import Completion, ConfigError, Example, TaskError, Turn

POST = Example("train-0", {"post": "My dog ate my homework."})
BRIEF = "The dog of the writer ate all of the homework."
LONG = (
    "However, the dog that lives with the writer chewed through every page of homework because nobody "
    "watched, so two long evenings were lost."
)


def test_agents_see_their_own_prompt() -> None:
    task = tldr_task()
    (message,) = task.observe(POST, "concise", ())
    asked = "Write a concise summary of the post: one or a few short sentences, facts only."
    assert (message.role, message.content) == ("user", f"Post: My dog ate my homework.\n\n{asked}")
    paper = Example("train-0", {"abstract": "We prove it."})
    shown = arxiv_task().observe(paper, "method", ())[0].content
    assert shown.startswith("Abstract: We prove it.\n\nExpand the abstract into an introduction. Another writer")


def test_a_prompt_of_ones_own_changes_no_other() -> None:
    task = tldr_task(Tldr(prompts=TldrPrompts(concise="One sentence, please. {post}")))
    assert task.observe(POST, "concise", ())[0].content == "One sentence, please. My dog ate my homework."
    assert task.observe(POST, "detailed", ()) == tldr_task().observe(POST, "detailed", ())
    single = tldr_task(Tldr(agents=("writer",), prompts=TldrPrompts(writer="Twice: {post} {post}")))
    assert single.observe(POST, "writer", ())[0].content == "Twice: My dog ate my homework. My dog ate my homework."
    halves = arxiv_task(Arxiv(prompts=ArxivPrompts(method="{abstract} How?")))
    assert halves.observe(Example("a", {"abstract": "Why {it}?"}), "method", ())[0].content == "Why {it}? How?"


def test_heard_words_are_appended() -> None:
    heard = (Turn("concise", (), Completion("Dog eats.")), Turn("detailed", (), Completion("The dog ate.")))
    shown = tldr_task().observe(POST, "detailed", heard)[0].content
    assert shown.endswith("\n\nThe concise writer wrote: Dog eats.\n\nYou wrote: The dog ate.")


def test_a_step_gives_both_agents_the_score() -> None:
    step = tldr_task().step(POST, {"detailed": LONG, "concise": BRIEF})
    expected = score(BRIEF, LONG, TLDR)
    assert expected.passed_level == 3
    assert step.rewards == {"concise": expected.total, "detailed": expected.total}
    assert step.ending == "horizon"
    assert {name: value for name, value in step.metrics.items() if not name.startswith("faithfulness")} == (
        expected.percents() | {"level": 3.0, "words/concise": 10.0, "words/detailed": 23.0}
    )
    assert step.details["length_ratio"] == len(LONG) / len(BRIEF)


def test_content_is_measured_without_a_weight() -> None:
    """dog, ate, homework of dog, writer, ate, homework; two words of the post's three among twelve."""
    step = tldr_task().step(POST, {"detailed": LONG, "concise": BRIEF})
    assert step.metrics["faithfulness/concise"] == pytest.approx(75.0)
    assert step.metrics["faithfulness/detailed"] == pytest.approx(100 * 2 / 12)
    assert step.metrics["faithfulness"] == pytest.approx((75 + 100 * 2 / 12) / 2)
    assert step.details["unsupported"][:3] == ["writer", "lives", "chewed"]
    assert "rouge1" not in step.metrics


def test_content_earns_what_its_weights_say() -> None:
    """A given summary of 5 words: 3, 1 and 3 of them in each text of 5 words."""
    example = Example("train-0", {"post": "My dog ate my homework.", "reference": "dog ate some homework today"})
    weights = ContentWeights(faithfulness=2.0, rouge1=1.0, rouge2=0.5, rouge_l=0.25)
    task = tldr_task(Tldr(Source("posts.jsonl"), reference="summary", weights=weights))
    step = task.step(example, {"concise": "dog ate the white homework", "detailed": "dog ate my red homework"})
    assert step.metrics["faithfulness"] == pytest.approx(75.0)
    assert [step.metrics[name] for name in ("rouge1", "rouge2", "rouge_l")] == pytest.approx([60.0, 25.0, 60.0])
    assert step.rewards["concise"] == pytest.approx(2 * 0.75 + 0.6 + 0.5 * 0.25 + 0.25 * 0.6)
    assert step.metrics["return_percent"] == 0.0  # the paper's return, whatever content earns
    assert task.best_return == 6.75


def test_two_halves_are_one_text_for_rouge() -> None:
    paper = Example("train-0", {"abstract": "It works.", "reference": "a b c d"})
    task = arxiv_task(Arxiv(Source("papers.jsonl"), reference="introduction"))
    assert task.step(paper, {"background": "a b", "method": "c d"}).metrics["rouge2"] == pytest.approx(100.0)


def test_a_writer_of_both_parts_is_as_faithful_as_two_agents() -> None:
    two = tldr_task().step(POST, {"detailed": LONG, "concise": BRIEF})
    one = tldr_task(Tldr(agents=("writer",))).step(POST, {"writer": f"{BRIEF}\n{DELIMITER}\n{LONG}"})
    assert one.metrics["faithfulness"] == two.metrics["faithfulness"]
    assert not any(name.startswith("faithfulness/") for name in one.metrics)


def test_given_summaries_come_from_their_column(tmp_path: Path) -> None:
    file = tmp_path / "posts.jsonl"
    file.write_text("".join(json.dumps({"prompt": f"post {n}", "completion": f"sum {n}"}) + "\n" for n in range(5)))
    task = tldr_task(Tldr(Source(str(file)), reference="completion"))
    assert task.examples("train")[0].data == {"post": "post 0", "reference": "sum 0"}
    with pytest.raises(TaskError, match="expected the column 'summary', found prompt, completion"):
        tldr_task(Tldr(Source(str(file)), reference="summary")).examples("train")


def test_transitions_of_a_file_are_found_within_words(tmp_path: Path) -> None:
    file = tmp_path / "transitions.json"
    file.write_text('{"time": ["as"], "condition": ["if"], "contrast": ["But"]}')
    actions = {"concise": BRIEF, "detailed": "It was a gift."}
    assert tldr_task().step(POST, actions).metrics["coherence"] == 0.0
    given = tldr_task(Tldr(transitions=str(file))).step(POST, actions)
    assert given.metrics["coherence"] == pytest.approx(45.0)  # two categories: 0.4 + 0.05


def test_silence_earns_nothing() -> None:
    step = tldr_task().step(POST, {"concise": "", "detailed": ""})
    assert step.rewards == {"concise": 0.0, "detailed": 0.0}


def test_a_missing_answer_is_an_error() -> None:
    with pytest.raises(TaskError, match="expected an answer of detailed"):
        tldr_task().step(POST, {"concise": "text"})


def test_one_writer_earns_what_two_would() -> None:
    alone = tldr_task(Tldr(agents=("writer",)))
    step = alone.step(POST, {"writer": f"{BRIEF}\n{DELIMITER}\n{LONG}"})
    assert step.rewards == {"writer": score(BRIEF, LONG, TLDR).total}
    assert step.metrics["words/writer"] == 34.0
    assert DELIMITER in alone.observe(POST, "writer", ())[0].content


@pytest.mark.parametrize(
    ("config", "words", "cut"), [(Tldr(agents=("writer",)), 35, 10), (Arxiv(agents=("writer",)), 43, 20)]
)
def test_without_a_delimiter_the_cut_is_fixed(config: Tldr | Arxiv, words: int, cut: int) -> None:
    """35 words at 1 : 2.5 are 10 and 25; 43 words at 1 : 1.15 are 20 and 23."""
    task = tldr_task(config) if isinstance(config, Tldr) else arxiv_task(config)
    first, second = task.parts({"writer": " ".join(["word"] * words)})
    assert (len(first.split()), len(second.split())) == (cut, words - cut)


def test_parts_may_be_empty() -> None:
    assert split_parts("", 2.5) == ("", "")
    assert split_parts(f"all {DELIMITER}", 2.5) == ("all", "")


def test_variants_choose_thresholds() -> None:
    assert arxiv_task(Arxiv(variant="early")).thresholds == ARXIV_EARLY
    assert arxiv_task(Arxiv(variant="later")).thresholds == ARXIV_LATER


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="expected the agents"):
        tldr_task(Tldr(agents=("one", "two")))
    with pytest.raises(ConfigError, match="expected the variant early or later, got 'late'"):
        arxiv_task(Arxiv(variant="late"))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="reference: the embedded data has no column 'summary'"):
        tldr_task(Tldr(reference="summary"))
    with pytest.raises(ConfigError, match="weights: ROUGE needs a given text"):
        tldr_task(Tldr(weights=ContentWeights(rouge_l=1.0)))
    for weight in (-1.0, math.inf, math.nan):
        with pytest.raises(ConfigError, match=r"weights\.faithfulness: expected 0 or more"):
            ContentWeights(faithfulness=weight)


@pytest.mark.parametrize("agents", [("concise", "detailed"), ("writer",)])
def test_embedded_posts_keep_the_contract(agents: tuple[str, ...]) -> None:
    pytest.importorskip("madrigal.tasks.embedded.posts")
    check_task(tldr_task(Tldr(agents=agents)))


@pytest.mark.parametrize("agents", [("background", "method"), ("writer",)])
def test_embedded_papers_keep_the_contract(agents: tuple[str, ...]) -> None:
    pytest.importorskip("madrigal.tasks.embedded.papers")
    check_task(arxiv_task(Arxiv(agents=agents)))


def papers() -> tuple[WritingTask, WritingTask]:
    source = Source(str(DATA / "scitldr_{split}.jsonl"))
    return arxiv_task(Arxiv(source, "abstract")), tldr_task(Tldr(source, "abstract"))


@pytest.mark.skipif(not (DATA / "scitldr_train.jsonl").exists(), reason="the SciTLDR files are not here")
def test_real_abstracts_load_and_score() -> None:
    for task in papers():
        check_task(task)
        assert len(task.examples("train")) >= 400 and len(task.examples("test")) == 100
        for example in task.examples("train")[::4]:
            shown = task.observe(example, task.agents[0], ())[0].content
            step = task.step(example, dict.fromkeys(task.agents, shown))
            assert all(math.isfinite(value) for value in (*step.rewards.values(), *step.metrics.values()))
            assert all(0.0 <= value <= 3.0 for value in step.rewards.values())


def test_a_single_writer_is_scored_with_and_without_the_delimiter() -> None:
    """Without it an answer is cut in two, as published, and beside that worth nothing."""
    alone = tldr_task(Tldr(agents=("writer",)))
    kept = alone.step(POST, {"writer": f"{BRIEF}\n{DELIMITER}\n{LONG}"}).metrics
    assert (kept["delimiter"], kept["delimited_return"]) == (100.0, kept["return_percent"]) and kept[
        "return_percent"
    ] > 0
    lost = alone.step(POST, {"writer": f"{BRIEF}\n{LONG}"}).metrics
    assert (lost["delimiter"], lost["delimited_return"]) == (0.0, 0.0) and lost["return_percent"] > 0
    two = tldr_task().step(POST, {"concise": BRIEF, "detailed": LONG}).metrics
    assert "delimiter" not in two and "delimited_return" not in two
