"""`Champion`: the model that a new one is compared with: a tagger, or a model that Kommuna did not train."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kommuna.errors import DataError
from kommuna.extras import needed_by
from kommuna.steps.training.tagger import Tagger

_ADOPT = (
    "to go on without comparing, take its alias `champion` away in MLflow and run `kommuna models unpin`: the next "
    "version that passes the gate becomes the champion"
)


class Champion(Protocol):
    """A model that tags rows."""

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags that it knows."""
        ...

    def save(self, path: Path | str) -> None:
        """Writes the model to a file."""
        ...

    @classmethod
    def load(cls, path: Path) -> Tagger | PyfuncModel:
        """Reads a tagger's file, or a folder of MLflow's files."""
        return PyfuncModel.load(path) if path.is_dir() else Tagger.load(path)


class PyfuncModel:
    """A model from elsewhere, by MLflow's interface `pyfunc`. Loading it runs the code that it brings.

    Args:
        model: MLflow's `PyFuncModel`.
    """

    def __init__(self, model: Any) -> None:
        self._model = model

    @classmethod
    def load(cls, path: Path) -> PyfuncModel:
        """Reads a folder of MLflow's files.

        Raises:
            DataError: MLflow cannot load it here.
            NotInstalled: MLflow is not installed.
        """
        with needed_by("a champion that Kommuna did not train"):
            import mlflow.pyfunc
        try:
            return cls(mlflow.pyfunc.load_model(str(path)))
        except Exception as error:  # whatever the model's own libraries raise
            raise DataError(
                f"the champion was not trained by Kommuna, and cannot be loaded: {type(error).__name__}: {error}",
                fix=f"install what it needs; {_ADOPT}",
            ) from error

    def save(self, path: Path | str) -> None:
        """Refuses: it stays in the registry."""
        raise DataError("a model from elsewhere is not stored again")

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags that it knows; empty if it does not say."""
        inner = getattr(self._model, "_model_impl", None)
        classes = getattr(getattr(inner, "sklearn_model", None), "classes_", None)
        return tuple(str(tag) for tag in classes) if isinstance(classes, np.ndarray) and classes.ndim == 1 else ()

    def chosen(self, frame: pl.DataFrame, text: str, tags: tuple[str, ...]) -> NDArray[np.bool_]:
        """Tags the rows of a table, `n x k`; tags of its own are left out.

        Args:
            frame: the gold rows.
            text: the text column.
            tags: k tags.

        Raises:
            DataError: it cannot tag such rows, or gives none of these tags.
        """
        given = [_names(one) for one in self._predict(frame, text)]
        column = {tag: j for j, tag in enumerate(tags)}
        out = np.zeros((len(given), len(tags)), dtype=np.bool_)
        for i, row in enumerate(given):
            for tag in row:
                if tag in column:
                    out[i, column[tag]] = True
        if len(out) and not out.any():
            shown = ", ".join(sorted({tag for row in given for tag in row})[:5]) or "nothing"
            raise DataError(
                f"the champion was not trained by Kommuna, and gives none of the tags: it gives {shown}", fix=_ADOPT
            )
        return out

    def _predict(self, frame: pl.DataFrame, text: str) -> Sequence[Any]:
        """Calls the model with the columns that it declares, or with the texts."""
        schema = self._model.metadata.get_input_schema()
        if schema is not None and schema.has_input_names():
            names = schema.input_names()
            renamed = frame if text in names or len(names) > 1 else frame.rename({text: names[0]})
            missing = [name for name in names if name not in renamed.columns]
            if missing:
                raise DataError(f"the champion needs the column '{missing[0]}', which gold lacks", fix=_ADOPT)
            inputs: list[Any] = [renamed.select(names).to_pandas()]
        else:
            texts = frame[text].cast(pl.String).fill_null("")
            inputs = [texts.to_pandas(), np.asarray(texts.to_list(), dtype=object), texts.to_list()]
        why = ""
        for given in inputs:
            try:
                found = _answers(self._model.predict(given))
            except Exception as error:  # whatever the model's own libraries raise
                why = why or f"{type(error).__name__}: {error}"
                continue
            if len(found) == len(frame):
                return found
            why = why or f"it gives {len(found)} answers for {len(frame)} rows"
        raise DataError(f"the champion was not trained by Kommuna, and cannot tag gold: {why[:300]}", fix=_ADOPT)


def _answers(found: Any) -> Sequence[Any]:
    """Returns one answer per row of whatever a model returns: an array, a list, or a table with a column of tags."""
    columns = getattr(found, "columns", None)
    if columns is not None:
        known = [name for name in ("tags", "tag", "label", "prediction", "predictions") if name in columns]
        found = found[known[0] if known else columns[0]]
    return list(found)


def _names(answer: Any) -> tuple[str, ...]:
    if answer is None:
        return ()
    if isinstance(answer, list | tuple | np.ndarray):
        return tuple(str(tag) for tag in answer)
    return (str(answer),)
