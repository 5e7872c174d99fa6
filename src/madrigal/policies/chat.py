"""Text to token ids and back, for one tokenizer and its chat template.

Messages are foreign: data, teammates and former answers stand in them. The tokens that steer a model (the begin and
end of a turn, of a text, padding) come from the template alone; spelled in a message, they reach the model as text.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from types import FrameType
from typing import Any

from madrigal.tasks.tools.calls import block_of, in_words
from madrigal.types import EngineError, Message, Messages

KNOWN = ("kayak", "marzipan")  # words that no template writes by itself
THOUGHT = "</think>"  # templates of reasoning models drop what a former answer holds before it
SECONDS = 10.0  # of processor time that a template may take for one prompt
CHARACTERS = 4_000_000  # that it may write beside 20 times the messages
# What a template is tried by that may have a place for tools: a tool, a call of it, what it said.
TRIED = (
    Message("tools", json.dumps([{"type": "function", "function": {"name": KNOWN[0], "description": KNOWN[1]}}])),
    Message("user", "hello"),
    Message("assistant", block_of(*KNOWN)),
    Message("tool", '{"said": "4"}\n\'5\''),
)
PLAIN = "or send plain prompts (team.chat_template false, --team.no-chat-template)"


class ChatFormat:
    """How messages become token ids and token ids become text.

    Args:
        tokenizer: of transformers.
        ends: token ids that close an answer, whatever the template.
    """

    def __init__(self, tokenizer: Any, ends: Iterable[int]) -> None:
        self.tokenizer = tokenizer
        self._added: Mapping[int, Any] = tokenizer.added_tokens_decoder
        steering = {i: self._added[i] for i in _steering(tokenizer, self._added, {*ends, *self.turn_ends})}
        self._hidden = frozenset(i for i, token in steering.items() if token.special)
        self._control = frozenset(i for i, token in steering.items() if _is_markup(token.content))
        markup = sorted((self._added[i].content for i in self._control), key=len, reverse=True)
        spellings = "|".join(map(re.escape, markup)) or "(?!)"
        self._spelled = re.compile(spellings)
        self._starts = re.compile(f"(?={spellings})(.)", re.DOTALL)

    def encode(self, messages: Messages, *, chat: bool = True) -> tuple[int, ...]:
        """Token ids of a prompt: by the chat template where there is one and `chat` is set, else of the plain text.

        A prompt that ends with the assistant's own words is the beginning of an answer, to be gone on with. Tools that
        may be called, and what they said, are handed to a template that has a place for them (`takes_tools`), and stand
        in texts of the user's elsewhere.

        Raises:
            EngineError: if the template fails or drops a message, a text is no Unicode, or there are no tokens.
        """
        if not messages:
            raise EngineError(f"{self._name}: a prompt without a message; give the agent something to read")
        chat = chat and bool(self.tokenizer.chat_template)
        if any(message.role in ("tool", "tools") for message in messages):
            messages = tuple(map(_spelled_out, messages)) if chat and self.takes_tools else in_words(messages)
        for message in messages:
            _check_unicode(message)
        whole = "\n\n".join(message.content for message in messages)
        mark = self._mark(whole)
        cut = tuple(replace(m, content=self._cut(m.content, mark)) for m in messages) if mark else messages
        ids = self._ids(self._prompt(cut), mark) if chat else [*self._begin, *self._ids(self._cut(whole, mark), mark)]
        if not ids:
            raise EngineError(
                f"{self._name}: a prompt of no tokens, from messages of {len(whole)} characters; give the agent "
                "something to read, or mend the tokenizer's chat template"
            )
        return tuple(ids)

    def encode_text(self, text: str) -> list[int]:
        """Token ids of a text by itself, with nothing before or after it."""
        mark = self._mark(text)
        return self._ids(self._cut(text, mark), mark)

    def decode(self, token_ids: Sequence[int], ends: frozenset[int]) -> str:
        """The text of an answer, letter by letter: without `ends` and the tokens that steer, with all other tokens."""
        kept = [i for i in token_ids if i not in self._hidden and i not in ends]
        text: str = self.tokenizer.decode(kept, clean_up_tokenization_spaces=False)
        return text

    @cached_property
    def turn_ends(self) -> frozenset[int]:
        """The token that the template writes after an answer, if it writes one."""
        if not self.tokenizer.chat_template:
            return frozenset()
        try:
            text = self._render((Message("user", KNOWN[0]), Message("assistant", KNOWN[1])), False, False)
        except EngineError:  # `encode` says so, where it matters
            return frozenset()
        after = text.rpartition(KNOWN[1])[2].lstrip() if KNOWN[1] in text else ""
        matching = [
            i for i, token in self._added.items() if _is_markup(token.content) and after.startswith(token.content)
        ]
        return frozenset({max(matching, key=lambda i: len(self._added[i].content))} if matching else ())

    @cached_property
    def takes_tools(self) -> bool:
        """Whether the template tells of tools, in the words in which calls are read, and shows what they said whole."""
        if not self.tokenizer.chat_template:
            return False
        try:
            text = self._prompt(TRIED)
        except EngineError:
            return False
        told = text.partition(TRIED[2].content)[0]
        return all(word in told for word in (*KNOWN, "<tool_call>", '"arguments"'))

    @cached_property
    def _begin(self) -> list[int]:
        """What the tokenizer puts before a plain text. What it puts behind would end the prompt: the end token."""
        full, bare = list(self.tokenizer("a")["input_ids"]), self._tokens("a")
        place = next((n for n in range(len(full)) if full[n : n + len(bare)] == bare), 0)
        return full[:place]

    @property
    def _name(self) -> str:
        return f"model {self.tokenizer.name_or_path}"

    def _prompt(self, messages: Messages) -> str:
        """The chat template's text, in which every message stands whole."""
        begun = messages[-1].role == "assistant"
        text = self._render(messages, not begun, begun)
        said = [message for message in messages if message.role != "tools"]
        for content, count in Counter(map(_required_text, said)).items():
            if text.count(content) < count:
                raise EngineError(
                    f"{self._name}: its chat template drops or changes messages: {content[:60]!r} stands in "
                    f"{count} of {_roles(messages)}, and {text.count(content)} time(s) in the prompt; mend the "
                    f"template {PLAIN}"
                )
        last = messages[-1].content
        if begun and last.strip():  # a template may trim, but the answer goes on behind the blanks
            text = text.rstrip() + last[len(last.rstrip()) :]
        return text

    def _render(self, messages: Messages, generation_prompt: bool, begun: bool) -> str:
        chat = [{"role": m.role, "content": m.content} for m in messages if m.role != "tools"]
        tools = [tool for m in messages if m.role == "tools" for tool in json.loads(m.content)]
        allowed = CHARACTERS + 20 * sum(len(m.content) for m in messages)
        try:
            with _bounded(allowed):
                text: str = self.tokenizer.apply_chat_template(
                    chat,
                    tools=tools or None,
                    tokenize=False,
                    add_generation_prompt=generation_prompt,
                    continue_final_message=begun,
                    enable_thinking=False,
                )
            if len(text) > allowed:
                raise _TooMuch(f"it writes {len(text)} characters")
        except (Exception, _TooMuch) as error:  # a template is a program of whoever made the model: it raises anything
            kind = "" if isinstance(error, _TooMuch) else f"{type(error).__name__}: "
            reason = " ".join(f"{kind}{error}".split())[:300]
            raise EngineError(
                f"{self._name}: its chat template cannot write a chat of {_roles(messages)}: {reason}; change the "
                f"task's messages, mend the template {PLAIN}"
            ) from error
        return text

    def _mark(self, text: str) -> str:
        """A character that a text does not hold, to cut it at; "" where it spells no control token."""
        if not self._spelled.search(text):
            return ""
        return next(c for c in map(chr, range(0xF0000, 0x10FFFE)) if c not in text)  # for private use

    def _cut(self, text: str, mark: str) -> str:
        """A text with a mark behind the first letter of every control token that it spells."""
        return self._starts.sub(rf"\1{mark}", text) if mark else text

    def _ids(self, text: str, mark: str) -> list[int]:
        """Token ids of a text that is cut at each mark, so that no token reaches over one."""
        first, *rest = text.split(mark) if mark else [text]
        ids = [*self._tokens(first), *(i for piece in rest for i in self._within(piece))]
        written = sum(len(self._spelled.findall(piece)) for piece in (first, *rest))
        # The unknown token stands for honest text, and some tokenizers have the end token stand for it.
        if sum(i in self._control and i != self.tokenizer.unk_token_id for i in ids) > written:
            raise EngineError(
                f"{self._name}: its tokenizer reads a control token where none is written, in {text[:60]!r}; leave "
                "that text out or take a model with another tokenizer"
            )
        return ids

    def _within(self, piece: str) -> list[int]:
        """Token ids of a piece in the middle of a text: SentencePiece would put a blank before the first word."""
        line, both = self._tokens("\n"), self._tokens(f"\n{piece}")
        return both[len(line) :] if both[: len(line)] == line else self._tokens(piece)

    def _tokens(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])


def _steering(tokenizer: Any, added: Mapping[int, Any], ends: set[int]) -> frozenset[int]:
    """Ids of the tokens that steer: named by the tokenizer, ends, spelled <|...|>, or special and in the template.

    A special token that is none of these is a word of the user's own format (<answer>); an added token that is not
    special (<think>, <table>, a run of blanks) is text.
    """
    t = tokenizer
    named = {t.bos_token_id, t.eos_token_id, t.pad_token_id, t.sep_token_id, t.cls_token_id, t.mask_token_id}
    template = t.chat_template or ""
    source = template if isinstance(template, str) else "\n".join(template.values())

    def steers(i: int, token: Any) -> bool:
        written = token.content.startswith(("<|", "<\uff5c")) or (token.special and token.content in source)
        return written or i in named or i in ends or i == t.unk_token_id

    return frozenset(i for i, token in added.items() if steers(i, token))


def _is_markup(token: str) -> bool:
    """Whether a token is no word, sign or blank, so that it can be told from honest text and be cut in two."""
    return len(token) > 1 and not any(c.isalnum() or c.isspace() for c in (token[0], token[-1]))


def _required_text(message: Message) -> str:
    """The part of a message that must stand in the prompt."""
    content = message.content.rpartition(THOUGHT)[2] if message.role == "assistant" else message.content
    return content.strip()


def _roles(messages: Messages) -> str:
    return f"{len(messages)} message(s) ({', '.join(message.role for message in messages)})"


def _spelled_out(message: Message) -> Message:
    """A message in whose tools nothing is written by the numbers of its characters: what they spell is seen."""
    if message.role != "tools":
        return message
    return replace(message, content=json.dumps(json.loads(message.content), ensure_ascii=False))


def _check_unicode(message: Message) -> None:
    try:
        message.content.encode()
    except UnicodeEncodeError as error:
        around = ascii(message.content[max(0, error.start - 20) : error.start + 20])
        raise EngineError(
            f"a message of the {message.role} is no Unicode text: half a character (a lone surrogate) at character "
            f"{error.start}, in {around}; mend the text, or replace that character by U+FFFD"
        ) from error


class _TooMuch(BaseException):
    """A template went beyond its bounds. No Exception: Jinja's compiler swallows those that it meets in constants."""


@contextmanager
def _bounded(characters: int) -> Iterator[None]:
    """Ends a template that runs too long or writes too much, in whatever thread it runs.

    Jinja compiles a template to Python functions, whose calls and results a profiler sees. A single operation of
    enormous size (a power, a product of strings) is seen only when it is over, and under another profiler nothing is.
    """
    if sys.getprofile() is not None:
        yield
        return
    deadline, written = time.thread_time() + SECONDS, 0

    def watch(frame: FrameType, event: str, result: object) -> None:
        nonlocal written
        if event == "return" and isinstance(result, str):
            written += len(result)
        if written > characters:
            raise _TooMuch(f"it writes more than {characters} characters")
        if time.thread_time() > deadline:
            raise _TooMuch(f"it takes more than {SECONDS:g} s")

    sys.setprofile(watch)
    try:
        yield
    finally:
        sys.setprofile(None)
