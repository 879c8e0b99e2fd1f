"""The version of each shared step, part of the question that a run of it asks the cache.

So a release of Kommuna makes teams compute again only what it changed. The results of small cases are recorded, and a
test fails where they changed and the version did not: docs/steps.md says what to do then. Nothing is imported here:
whoever forms a key reads the table without the libraries of the steps.
"""

from __future__ import annotations

VERSIONS: dict[str, int] = {
    "kommuna.steps.check:check": 1,
    "kommuna.steps.etl.read:read_table": 1,
    "kommuna.steps.etl.clean:clean": 1,
    "kommuna.steps.etl.mask:mask_pii": 2,
    "kommuna.steps.etl.prepare:prepare_messages": 2,
    "kommuna.steps.etl.query:query": 1,
    "kommuna.steps.etl.asof:asof_join": 1,
    "kommuna.steps.labeling.apply:apply_rules": 2,
    "kommuna.steps.labeling.ask.votes:ask_votes": 1,
    "kommuna.steps.labeling.label:label_messages": 1,
    "kommuna.steps.labeling.refine.step:refine_rules": 2,
    "kommuna.steps.labeling.rule_report:rule_report": 1,
    "kommuna.steps.training.train:train_classifier": 2,
    "kommuna.steps.training.evaluate:evaluate": 4,
    "kommuna.steps.training.predict:predict": 2,
    "kommuna.steps.registry.register:register": 1,
    "kommuna.steps.registry.promote:promote": 1,
}

# Of how values become files and files values (`runtime/codecs.py`), which counts for all steps: raised like the others.
FORMAT = 2
