"""The data of a refinement: tags, folds, and invalid tables."""

import polars as pl
import pytest

from kommuna.errors import DataError, MissingColumn
from kommuna.spec.rules import RuleSet
from kommuna.steps.labeling.refine.data import FOLDS, read_refine_data
from kommuna.steps.llm.client import Llm

SETTINGS = {"multi_label": False, "key": "id", "text": "text", "label": "tag", "seed": 0, "llm": Llm()}


def test_the_rows_of_each_tag_are_spread_over_the_folds(data):
    for tag in range(len(data.tags)):
        rows = [int((data.truth[:, tag] & (data.fold == f)).sum()) for f in range(FOLDS)]
        assert max(rows) - min(rows) <= 1


def test_without_rules_the_tags_are_those_of_dev_by_frequency(data, dev):
    counts = dev["tag"].value_counts().sort("count", descending=True)
    assert set(data.tags) == {"card", "loan", "fees"}
    assert counts["count"].to_list() == [int(n) for n in data.truth.sum(axis=0)]


def test_too_few_dev_rows_are_refused_with_the_required_number(unlabeled, dev):
    with pytest.raises(DataError, match="20 dev rows are too few") as refused:
        read_refine_data(unlabeled, dev.head(20).lazy(), None, **SETTINGS)
    assert "at least 50" in refused.value.fix


def test_dev_without_a_tag_of_two_rows_is_refused(unlabeled, dev):
    each = dev.head(60).with_columns(tag=pl.format("t{}", pl.int_range(60)))
    with pytest.raises(DataError, match="0 of 60 tags have two rows"):
        read_refine_data(unlabeled, each.lazy(), None, **SETTINGS)


def test_a_missing_column_is_named_with_the_nearest_name(unlabeled, dev):
    with pytest.raises(MissingColumn, match=r"no column 'tag' \(did you mean 'tags'\?\)"):
        read_refine_data(unlabeled, dev.rename({"tag": "tags"}).lazy(), None, **SETTINGS)


def test_a_dev_tag_that_is_not_in_the_rule_set_is_named(unlabeled, dev):
    rules = RuleSet.read({"tags": ["card", "loan"], "rules": [{"name": "a", "tag": "card", "any": ["card"]}]}, where="")
    with pytest.raises(DataError, match="'fees', which is not one of the tags"):
        read_refine_data(unlabeled, dev.lazy(), rules, **SETTINGS)


def test_an_empty_table_of_messages_is_refused(unlabeled, dev):
    with pytest.raises(DataError, match="the table of messages is empty"):
        read_refine_data(unlabeled.head(0), dev.lazy(), None, **SETTINGS)
