"""The registered model for MLflow: `mlflow.pyfunc.load_model("models:/NAME/1").predict(table)` returns tags.

MLflow runs this file when it loads the model ("models from code"), so nothing is pickled. The version carries the
modules of Kommuna that the model needs: an installed Kommuna is not used.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow

from kommuna.steps.registry.service import Service, as_pandas, from_pandas


class ScoringModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc,name-defined,unused-ignore]
    """A tagger with MLflow's interface: takes a pandas table, returns one with tags and confidences."""

    def load_context(self, context: Any) -> None:
        """Loads the tagger from the model's artifacts."""
        files = {name: Path(path) for name, path in context.artifacts.items()}
        self.service = Service.load(files["tagger"], files.get("preparation"))

    # No type hints: MLflow reads them as a schema, does not support these types, and warns.
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """Tags the rows of a pandas table; `params` are those of `Service.answer`."""
        return as_pandas(self.service.answer(from_pandas(model_input), **(params or {})))


mlflow.models.set_model(ScoringModel())
