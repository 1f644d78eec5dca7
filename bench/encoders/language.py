"""Features of sentences from a frozen language model, each sentence read once.

Any transformers model that maps tokens to hidden states serves, from a folder or from the hub. A
sentence's features are the last hidden states of its own tokens (`tokens`; what the tokenizer puts
around them is read but has no feature of its own), or that of [CLS] alone (`cls`).
"""

# S sentences, L tokens of a sentence, C width of the model

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.cache_folder import entry_path
from bench.encoders.cache import TensorCache, content_key
from bench.encoders.hub import checksum, files_of, model_folder
from bench.errors import BadConfig
from bench.sources import own_hash
from bench.spec import TEXT_MODELS, EncoderConfig, digest

BATCH = 64  # sentences of one length that the model sees at a time
MAX_TOKENS = 512


@dataclass(frozen=True)
class Sentence:
    """A sentence as the model reads it."""

    ids: tuple[int, ...]
    own: tuple[int, ...]  # places of its own tokens; the others were added by the tokenizer


def sentence_features(
    sentences: Sequence[str], config: EncoderConfig, device: torch.device | str = "cpu"
) -> list[Tensor]:
    """Return the features of each sentence: (L, C) float32 on the CPU, with `cls` (1, C).

    What was read is kept in the cache folder by the sentence and the model's files; the model is
    loaded only for what is not there.

    Args:
        sentences: S of them; equal ones are read once.
        config: `text` says which features, `text_model` which model.
        device: where the model runs.

    Raises:
        BadConfig: the model cannot be had or gives no such features, or the cache cannot be
            written.
    """
    name = config.text_model or TEXT_MODELS[config.text]
    try:
        folder = model_folder(name)
        files = [(path.name, checksum(path)) for path in files_of(folder)]
    except OSError as error:
        raise BadConfig(
            f"encoder.text_model={name} cannot be had ({error}); give the folder of a model with "
            "encoder.text_model=PATH, or learn attribute tokens with encoder.text=''"
        ) from error
    code = own_hash([Path(__file__)])
    key = digest([config.text, files, code, version("transformers"), version("tokenizers")])
    model = LanguageModel(name, folder, device)

    def make(places: list[int]) -> list[Tensor]:
        return model.read([sentences[place] for place in places], cls=config.text == "cls")

    cache = TensorCache(entry_path("text", f"{Path(name).name}-{config.text}", key))
    return cache.get([content_key([key.encode(), each.encode()]) for each in sentences], make)


class LanguageModel:
    """A frozen model and its tokenizer, loaded when the first sentence is read."""

    def __init__(self, name: str, folder: Path, device: torch.device | str):
        self.name, self.folder, self.device = name, folder, device

    def read(self, sentences: Sequence[str], *, cls: bool) -> list[Tensor]:
        """Return the features of each sentence: (L, C), or of [CLS] (1, C).

        Sentences of one length are read together, so that no padding can leave a trace.

        Raises:
            BadConfig: the model cannot be loaded, or gives no such features.
        """
        with torch.random.fork_rng(devices=[]), torch.no_grad():  # loading a model draws numbers
            tokenised = [self._tokenise(each) for each in sentences]
            if cls:
                self._check_cls(tokenised[0])
            features: dict[int, Tensor] = {}
            for places in _alike(tokenised):
                hidden = self._hidden([tokenised[place].ids for place in places])
                for place, states in zip(places, hidden, strict=True):
                    features[place] = states[[0] if cls else list(tokenised[place].own)]
        return [features[place] for place in range(len(sentences))]

    def _hidden(self, ids: Sequence[Sequence[int]]) -> Tensor:
        """Return the last hidden states: (n, L, C) float32."""
        try:
            states = self._model(input_ids=torch.tensor(ids, device=self.device)).last_hidden_state
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise self._refusal(f"gives no hidden states of sentences: {error}") from error
        return states.float().cpu()

    def _check_cls(self, sentence: Sentence) -> None:
        """Refuse a model whose first token is a word, or sees nothing of what follows."""
        alone, among = (self._hidden([ids])[0, 0] for ids in (sentence.ids[:1], sentence.ids))
        if 0 in sentence.own or torch.allclose(alone, among):
            raise self._refusal("has no [CLS] that sees the sentence; use encoder.text=tokens")

    def _refusal(self, reason: str) -> BadConfig:
        return BadConfig(f"encoder.text_model={self.name} {' '.join(reason.split())[:200]}")

    @cached_property
    def _model(self) -> Any:
        from transformers import AutoModel

        with quiet():
            try:
                model = AutoModel.from_pretrained(
                    self.folder, local_files_only=True, trust_remote_code=False
                )
            except Exception as error:  # transformers raises many kinds
                raise self._refusal(f"cannot be loaded: {error}") from error
        return model.float().eval().requires_grad_(False).to(self.device)

    @cached_property
    def _tokenise(self) -> Callable[[str], Sentence]:
        """Return the tokenizer; its file is taken at its word where there is one.

        Classes of transformers rebuild some tokenizers by the kind of the model, others than those
        that the file holds.
        """
        try:
            if (self.folder / "tokenizer.json").is_file():
                return _file_tokenizer(self.folder)
            return _class_tokenizer(self.folder)
        except Exception as error:  # both libraries raise many kinds
            raise self._refusal(f"has no tokenizer that can be loaded: {error}") from error


def _file_tokenizer(folder: Path) -> Callable[[str], Sentence]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    begin = _token_at_the_beginning(folder, tokenizer)

    def tokenise(sentence: str) -> Sentence:
        encoding = tokenizer.encode(sentence)
        ids, special = list(encoding.ids), list(encoding.special_tokens_mask)
        if begin is not None and ids[:1] != [begin]:
            ids, special = [begin, *ids], [1, *special]
        return _sentence(ids, special)

    return tokenise


def _token_at_the_beginning(folder: Path, tokenizer: Any) -> int | None:
    """Return the token that is to stand before each sentence, which some files leave to a class."""
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    token = settings.get("bos_token")
    if not settings.get("add_bos_token") or token is None:
        return None
    return tokenizer.token_to_id(token if isinstance(token, str) else token["content"])


def _class_tokenizer(folder: Path) -> Callable[[str], Sentence]:
    from transformers import AutoTokenizer

    with quiet():
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )

    def tokenise(sentence: str) -> Sentence:
        found = tokenizer(
            sentence, return_special_tokens_mask=True, truncation=True, max_length=MAX_TOKENS
        )
        return _sentence(found["input_ids"], found["special_tokens_mask"])

    return tokenise


def _sentence(ids: Sequence[int], special: Sequence[int]) -> Sentence:
    own = tuple(place for place, added in enumerate(special) if not added)
    return Sentence(tuple(ids), own or tuple(range(len(ids))))  # a blank has the added ones


def _alike(sentences: Sequence[Sentence]) -> Iterator[list[int]]:
    """Yield places of sentences of one length, a batch at a time."""
    places_of: dict[int, list[int]] = {}
    for place, each in enumerate(sentences):
        places_of.setdefault(len(each.ids), []).append(place)
    for places in places_of.values():
        for start in range(0, len(places), BATCH):
            yield places[start : start + BATCH]


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the reports and progress bars of transformers."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
