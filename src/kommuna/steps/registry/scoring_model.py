"""The registered model for MLflow: `mlflow.pyfunc.load_model("models:/NAME/1").predict(table)` returns tags.

MLflow runs this file when it loads the model ("models from code"), so nothing is pickled. Kommuna must be installed
where the model is loaded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import polars as pl

from kommuna.steps.training.tagger import Tagger


class ScoringModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc,name-defined,unused-ignore]
    """A tagger with MLflow's interface: takes a pandas table, returns one with tags and confidences."""

    def load_context(self, context: Any) -> None:
        """Loads the tagger from the model's artifacts."""
        self.tagger = Tagger.load(Path(context.artifacts["tagger"]))

    # No type hints: MLflow reads them as a schema, does not support these types, and warns.
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """Tags the rows of a pandas table."""
        import pandas as pd

        found = self.tagger.predict_table(pl.from_pandas(model_input))
        name = "tags" if self.tagger.multi_label else "tag"
        kind = pl.List(pl.String) if self.tagger.multi_label else pl.String
        return pd.DataFrame({name: found[name].cast(kind).to_list(), "confidence": found["confidence"].to_list()})


mlflow.models.set_model(ScoringModel())
