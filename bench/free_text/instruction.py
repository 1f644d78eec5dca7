"""Attributes of reports from a local instruction model, bound to the vocabulary of the rules.

The model writes nothing: of each allowed answer, and of `not mentioned`, the likelihood after the
question is computed, and the likeliest is taken. The answer is the mean log-probability of its
tokens, so that a long one has no handicap; a tie goes to `not mentioned`.
"""

# A answers, L tokens of a prompt with an answer, V vocabulary of the model

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bench.cache_folder import entry_path
from bench.encoders.cache import TensorCache, content_key
from bench.encoders.hub import checksum, files_of
from bench.encoders.language import quiet
from bench.errors import BadConfig, BadData
from bench.sources import own_hash
from bench.spec import digest

if TYPE_CHECKING:
    from bench.free_text.rules import AttributeRules, Rules

UNMENTIONED = "not mentioned"
QUESTION = "What does the report say of: {name}?"
PROMPT = (
    "{report}\n\nThis was a medical report. {question} Answer with one of: {answers}. If the "
    "report does not mention it, answer: {unmentioned}."
)


class InstructionSelector:
    """Reads reports by a causal language model of transformers from a local folder."""

    def __init__(self, folder: str):
        """Find the model; it is loaded for the first answer that is not in the cache.

        Raises:
            BadConfig: there is no such folder, or no model in it.
        """
        self.folder = Path(folder)
        self.name = folder
        if not (self.folder / "config.json").is_file():
            raise self._refusal("is no folder with a model (config.json); give one that is")

    def read(self, reports: Sequence[str], rules: Rules) -> list[dict[str, str | None]]:
        """Return the value of each attribute of each report; see `bench.free_text.Selector`.

        What was answered is kept in the cache folder, by the prompt and the model's files.

        Raises:
            BadConfig: the model cannot be loaded or read, or the cache cannot be written.
            BadData: a report is longer than the model can read.
        """
        asked = [
            (self.prompt(report, name, each), (UNMENTIONED, *each.vocabulary))
            for report in reports
            for name, each in rules.items()
        ]

        def make(places: list[int]) -> list[Tensor]:
            return [self._scores(*asked[place]) for place in places]

        key = self._key()
        cache = TensorCache(entry_path("answers", self.folder.name, key))
        scores = cache.get([content_key([digest([key, *each]).encode()]) for each in asked], make)
        chosen = [
            (None, *answers[1:])[int(score.argmax())]
            for (_, answers), score in zip(asked, scores, strict=True)
        ]
        n = len(rules)
        return [
            dict(zip(rules, chosen[n * i : n * i + n], strict=True)) for i in range(len(reports))
        ]

    def _key(self) -> str:
        """Hash all that an answer depends on beside the prompt."""
        try:
            files = [(path.name, checksum(path)) for path in files_of(self.folder)]
        except OSError as error:
            raise self._refusal(f"cannot be read ({error})") from error
        return digest([files, own_hash([Path(__file__)]), version("transformers")])

    def prompt(self, report: str, name: str, rules: AttributeRules) -> str:
        """Write what the model is asked about one attribute of a report."""
        return PROMPT.format(
            report=report.strip(),
            question=rules.question or QUESTION.format(name=name.replace("_", " ")),
            answers="; ".join(rules.vocabulary),
            unmentioned=UNMENTIONED,
        )

    @torch.no_grad()
    def _scores(self, prompt: str, answers: Sequence[str]) -> Tensor:
        """Return the mean log-probability of each answer's tokens: (A,)."""
        start = self._ids(self.as_turn(prompt))
        ends = [self._ids(f" {answer}") for answer in answers]
        self._check_length(len(start) + max(map(len, ends)), prompt)
        width = max(map(len, ends))
        rows = [start + end + [0] * (width - len(end)) for end in ends]  # what follows is not seen
        logits = self._logits(torch.tensor(rows, device=self._device))[:, len(start) - 1 : -1]
        log_p = logits.float().log_softmax(-1)  # (A, longest answer, V)
        means = [
            log_p[a, torch.arange(len(end)), torch.tensor(end)].mean() for a, end in enumerate(ends)
        ]
        return torch.stack(means).cpu()

    def _logits(self, ids: Tensor) -> Tensor:
        """Return what the model says of each next token: (A, L, V)."""
        try:
            found = self._model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise self._refusal(f"gives no answers: {error}") from error
        assert isinstance(found, Tensor)
        return found

    def as_turn(self, prompt: str) -> str:
        """Dress the prompt as a turn of a conversation, if the model was trained on such."""
        if not self._has_turns:
            return f"{prompt}\nAnswer:"
        turns = [{"role": "user", "content": prompt}]
        dressed = self._tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=True
        )
        return str(dressed)

    @property
    def _has_turns(self) -> bool:
        settings = self.folder / "tokenizer_config.json"
        said = json.loads(settings.read_text(encoding="utf-8")) if settings.is_file() else {}
        return "chat_template" in said or (self.folder / "chat_template.jinja").is_file()

    def _ids(self, text: str) -> list[int]:
        ids = self._tokenise(text)
        if not ids:
            raise self._refusal(f"has no tokens for {text!r}")
        return ids

    @cached_property
    def _tokenise(self) -> Callable[[str], list[int]]:
        """Return the tokenizer; its file is taken at its word where there is one."""
        file = self.folder / "tokenizer.json"
        if not file.is_file():
            return lambda text: list(self._tokenizer(text, add_special_tokens=False)["input_ids"])
        from tokenizers import Tokenizer

        try:
            tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # tokenizers raises the plainest kind
            raise self._refusal(f"has no tokenizer that can be loaded: {error}") from error
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return lambda text: list(tokenizer.encode(text, add_special_tokens=False).ids)

    def _check_length(self, n_tokens: int, prompt: str) -> None:
        limit = getattr(self._model.config, "max_position_embeddings", None)
        if limit is not None and n_tokens > limit:
            raise BadData(
                f"the report that begins {prompt[:40]!r} has {n_tokens} tokens with its question, "
                f"{self.name} reads {limit}; shorten it or take another model"
            )

    def _refusal(self, reason: str) -> BadConfig:
        return BadConfig(f"the instruction model {self.name} {' '.join(reason.split())[:200]}")

    @property
    def _device(self) -> str:
        return "cuda" if torch.cuda.is_available() else "cpu"

    @cached_property
    def _model(self) -> Any:
        from transformers import AutoModelForCausalLM

        with quiet(), torch.random.fork_rng(devices=[]):  # loading a model draws numbers
            try:
                model = AutoModelForCausalLM.from_pretrained(
                    self.folder, local_files_only=True, trust_remote_code=False
                )
            except Exception as error:  # transformers raises many kinds
                raise self._refusal(f"cannot be loaded: {error}") from error
        return model.float().eval().requires_grad_(False).to(self._device)

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        with quiet():
            try:
                return AutoTokenizer.from_pretrained(
                    self.folder, local_files_only=True, trust_remote_code=False
                )
            except Exception as error:  # likewise
                raise self._refusal(f"has no tokenizer that can be loaded: {error}") from error
