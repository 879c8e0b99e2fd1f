"""Reads and writes WRENCH's JSON: texts, true classes and weak labels of one split.

A folder has `label.json` with the names of the classes (`{"0": "HAM", "1": "SPAM"}`), and files such as `train.json`
with rows by their ids:
`{"0": {"label": 1, "weak_labels": [-1, 1, …], "data": {"text": "…"}}}`; -1 abstains (Zhang et al. 2021, "WRENCH: a
comprehensive benchmark for weak supervision", NeurIPS).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from kommuna.errors import DataError
from kommuna.spec.rules import RuleSet
from kommuna.steps.columns import require_columns
from kommuna.steps.labeling.votes.label_matrix import from_matrix, to_matrix

_CLASSES = "label.json"


class Wrench(NamedTuple):
    """One split.

    Attributes:
        messages: `key`, the name of the true class in `label`, and one column per field of the rows' data.
        votes: `key` and one column per rule, as `apply_rules` returns them.
        rules: the classes as tags, and one rule per weak label; its condition is not part of the format.
    """

    messages: pl.DataFrame
    votes: pl.DataFrame
    rules: RuleSet


def read_wrench(path: Path, *, key: str = "id", label: str = "tag") -> Wrench:
    """Reads one split.

    Args:
        path: the split's file; `label.json` is in the same folder.
        key: the name for the column of row ids.
        label: the name for the column of true classes.

    Raises:
        DataError: the file is not WRENCH JSON; the message names the row.
        RulesError: a weak label is not a class.
    """
    rows = _objects(path)
    names = _objects(path.with_name(_CLASSES))
    if not names or set(names) != {str(i) for i in range(len(names))}:
        raise DataError("the classes are not numbered 0, 1, 2, …", where=str(path.with_name(_CLASSES)))
    tags = [str(names[str(i)]) for i in range(len(names))]
    m = len(next(iter(rows.values())).get("weak_labels", ())) if rows else 0
    if not m:
        raise DataError("there is no row with weak labels", where=str(path))
    for name, row in rows.items():
        cast, truth = row.get("weak_labels"), row.get("label")
        if not isinstance(cast, list) or len(cast) != m:
            raise DataError(f"expected {m} weak_labels in row '{name}', as in the first", where=str(path))
        if truth is not None and str(truth) not in names:
            raise DataError(f"the label of row '{name}' is {truth}, classes are 0 to {len(tags) - 1}", where=str(path))
    rules = RuleSet.read(
        {"tags": tags, "rules": [{"name": f"rule_{j}", "tag": tags[0], "sql": "false"} for j in range(m)]},
        where=str(path),
    )
    keys = list(rows)
    matrix = np.array([row["weak_labels"] for row in rows.values()])
    if matrix.dtype.kind != "i":
        raise DataError(f"weak_labels must be whole numbers, not {matrix.dtype}", where=str(path))
    truths = [None if row.get("label") is None else tags[int(row["label"])] for row in rows.values()]
    fields = dict.fromkeys(field for row in rows.values() for field in row.get("data", {}))
    messages = pl.DataFrame(
        {
            key: keys,
            label: pl.Series(truths, dtype=pl.Enum(tags)),
            **{field: [row.get("data", {}).get(field) for row in rows.values()] for field in fields},
        }
    )
    return Wrench(messages, from_matrix(matrix, rules, keys=keys, key=key), rules)


def write_wrench(
    path: Path, votes: pl.DataFrame, rules: RuleSet, messages: pl.DataFrame, *, key: str = "id", label: str = "tag"
) -> None:
    """Writes one split, and `label.json` in the same folder.

    Args:
        path: the split's file.
        votes: the result of `apply_rules`.
        rules: the rule set that cast the votes.
        messages: `key`, optionally `label`, and the fields of the rows' data.
        key: the column that names a row.
        label: the column with the true class.

    Raises:
        RulesError: a label matrix cannot hold the votes (see `to_matrix`).
        MissingColumn: `messages` has no `key`.
        DataError: a row of `votes` has no message, or its label is not a tag.
    """
    require_columns(messages.lazy(), [key], what="messages")
    matrix = to_matrix(votes, rules, key=key)
    joined = votes.select(key).join(messages, on=key, how="left", maintain_order="left")
    if joined.height != votes.height or not votes[key].is_in(messages[key].implode()).all():
        raise DataError("votes and messages are not of the same rows", where=f"column '{key}'")
    index = {tag: i for i, tag in enumerate(rules.tags)}
    truths = joined[label].cast(pl.String).to_list() if label in joined.columns else [None] * joined.height
    unknown = next((truth for truth in truths if truth is not None and truth not in index), None)
    if unknown is not None:
        raise DataError(f"column '{label}': {unknown!r} is not a tag of the rule set", where="messages")
    data = joined.drop(key, label, strict=False).to_dicts()
    rows = {
        str(name): {
            "label": None if truth is None else index[truth],
            "weak_labels": line.tolist(),
            "data": {field: value for field, value in fields.items() if value is not None},
        }
        for name, truth, line, fields in zip(joined[key], truths, matrix, data, strict=True)
    }
    path.write_text(json.dumps(rows, ensure_ascii=False))
    path.with_name(_CLASSES).write_text(json.dumps({str(i): tag for i, tag in enumerate(rules.tags)}))


def _objects(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"the file is not WRENCH JSON: {error}", where=str(path)) from None
    if not isinstance(found, dict):
        raise DataError("expected a JSON object of rows by their ids", where=str(path))
    return found
