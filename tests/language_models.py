"""Small language models with their tokenizers, saved as their publishers save the large ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, Qwen2Config, Qwen2Model
from transformers.utils import logging

VOCABULARY = "the a of is age sex site lower limb back f m other patient . 6 ##3 ##0 ##1 ##5"
WORDS = VOCABULARY.split()


def save_bert(folder: Path) -> Path:
    """Save a small BERT with a WordPiece vocabulary."""
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=32,
    )
    return saved(BertModel(config), folder)


def save_qwen(folder: Path) -> Path:
    """Save a small Qwen2, the kind of DeepSeek's distilled models, that begins with a token."""
    vocabulary = {word: i for i, word in enumerate(["<begin>", "<unknown>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unknown>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["<begin>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"add_bos_token": True, "bos_token": {"content": "<begin>"}}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(vocabulary),
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=16,
    )
    return saved(Qwen2Model(config), folder)


def saved(model: Any, folder: Path) -> Path:
    """Save a model and return its folder."""
    logging.disable_progress_bar()
    model.save_pretrained(folder)
    return folder
