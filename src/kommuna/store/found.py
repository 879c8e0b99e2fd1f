"""Finds the result of a step by its key, or by the task that made it."""

from __future__ import annotations

from collections.abc import Iterable

from kommuna.errors import TeamMistake
from kommuna.store.manifest import Manifest
from kommuna.store.store import Store


def found_by_key(key: str, stores: Iterable[Store]) -> tuple[Manifest, Store]:
    """Returns the only manifest whose key begins with a text, and its store.

    Args:
        key: a key, or its first characters.
        stores: the stores of the teams that are searched, in this order.

    Raises:
        TeamMistake: no key, or several keys, begin with it.
    """
    for store in stores:
        found = [manifest for manifest in store.records() if manifest.key.startswith(key)]
        if len(found) > 1:
            keys = ", ".join(manifest.key[:16] for manifest in found[:5])
            raise TeamMistake(f"{len(found)} keys begin with '{key}'", fix=f"give more characters: {keys} …")
        if found:
            return found[0], store
    raise TeamMistake(f"no key begins with '{key}'", fix="see the task's XCom or log for the key")


def found_by_task(dag_id: str, run_id: str, task_id: str, store: Store) -> tuple[Manifest, Store]:
    """Returns the newest manifest that a task of a run made, and its store.

    Args:
        dag_id: the DAG, with its team.
        run_id: the run.
        task_id: the task.
        store: the store of the DAG's team.

    Raises:
        TeamMistake: it made none; a task that reused an earlier result has that result's key in its log.
    """
    made = (dag_id, run_id, task_id)
    found = [one for one in store.records() if (one.dag_id, one.run_id, one.task_id) == made]
    if not found:
        raise TeamMistake(
            f"task '{task_id}' of run '{run_id}' has no result of its own in the store",
            fix="if it reused an earlier result, give the key in the task's log",
        )
    return max(found, key=lambda one: one.started), store
