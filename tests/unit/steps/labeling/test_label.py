"""`label_messages`: the columns of labels, cross-fitted figures, calibration, and invalid inputs."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import structlog

from kommuna.errors import DataError, DuplicateKeys, MissingColumn, RulesError, SchemaDrift, SpecError
from kommuna.steps.labeling.apply import apply_rules
from kommuna.steps.labeling.label import label_messages
from kommuna.steps.labeling.votes.label_matrix import from_matrix

TAGS = ["a", "b", "c"]


@pytest.fixture
def rules(rule_set: Any) -> Any:
    return rule_set(*({"name": f"r{j}", "tag": TAGS[j % 3], "any": ["x"]} for j in range(4)), tags=TAGS)


@pytest.fixture
def votes(rules: Any) -> pl.LazyFrame:
    matrix = np.array([[0, 0, 1, -1], [-1, -1, -1, -1], [2, 1, 1, -1], [-1, -1, -1, 2]])
    return from_matrix(matrix, rules, keys=["w", "x", "y", "z"]).lazy()


@pytest.fixture
def dev() -> pl.LazyFrame:
    return pl.LazyFrame({"id": ["w", "y", "z", "q"], "tag": ["a", "b", "c", "a"]})


@pytest.mark.parametrize("model", ["majority", "dawid_skene"])
def test_labels_have_the_documented_columns_and_a_row_without_votes_is_unknown(
    rules: Any, votes: Any, model: Any
) -> None:
    labels, *_, metrics = label_messages(votes, rules, model=model)
    table = labels.collect()
    assert table.schema == {
        "id": pl.String,
        "tag": pl.Enum(TAGS),
        "confidence": pl.Float32,
        "probabilities": pl.Array(pl.Float32, 3),
    }
    assert table["id"].to_list() == ["w", "x", "y", "z"]
    assert table["tag"].to_list() == ["a", None, "b", "c"]
    assert table.row(1) == ("x", None, None, None)
    known = table.drop_nulls()
    assert np.allclose(known["probabilities"].to_numpy().sum(axis=1), 1, atol=1e-6)
    assert np.allclose(known["probabilities"].to_numpy().max(axis=1), known["confidence"])
    assert metrics["labeled"] == 0.75


def test_labels_do_not_depend_on_how_they_are_read(rules: Any, votes: Any) -> None:
    labels = label_messages(votes, rules).labels
    table = labels.collect()
    assert labels.collect(engine="streaming").equals(table)
    assert labels.select("tag").filter(pl.col("tag") == "b").collect().equals(table.select("tag").filter(tag="b"))
    assert labels.slice(1, 2).collect().equals(table[1:3])


def test_labels_do_not_depend_on_the_number_of_cores(rule_set: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = rule_set(*({"name": f"r{j}", "tag": TAGS[j % 3], "any": ["x"]} for j in range(12)), tags=TAGS)
    matrix = np.random.default_rng(0).integers(-1, 3, (900, 12))
    votes = from_matrix(matrix, rules)
    dev = pl.LazyFrame({"id": range(60), "tag": [TAGS[max(row)] for row in matrix[:60].tolist()]})
    tables = []
    for cores in (1, 3):
        monkeypatch.setattr(pl, "thread_pool_size", lambda cores=cores: cores)
        done = label_messages(votes.lazy(), rules, votes.lazy().head(60), dev)
        tables.append((done.labels.collect(), done.cross_fitted.collect()))
    assert all(one.equals(other) for one, other in zip(*tables, strict=True))


def test_majority_confidence_is_the_share_of_votes(rules: Any, votes: Any) -> None:
    table = label_messages(votes, rules, model="majority").labels.collect()
    assert np.allclose(table["confidence"].drop_nulls(), [2 / 3, 2 / 3, 1.0])


def test_the_order_of_rows_changes_no_label(shared_data: Path, rule_set: Any) -> None:
    rows = list(json.loads((shared_data / "wrench_trec" / "train.json").read_text()).values())
    matrix = np.array([row["weak_labels"] for row in rows])
    rules = rule_set(
        *({"name": f"r{j}", "tag": "0", "any": ["x"]} for j in range(matrix.shape[1])), tags=[str(i) for i in range(6)]
    )
    votes = from_matrix(matrix, rules)
    one = label_messages(votes.lazy(), rules).labels.collect()
    other = label_messages(votes.sample(fraction=1.0, shuffle=True, seed=1).lazy(), rules).labels.collect()
    assert one.equals(other.sort("id"))


def test_multi_label_are_assigned_from_a_probability_of_one_half(rule_set: Any) -> None:
    rules = rule_set(
        {"name": "card", "tag": "card", "any": ["card"]},
        {"name": "loan", "tag": "loan", "any": ["loan"]},
        {"name": "no_loan", "tag": "loan", "any": ["not a loan"], "against": True},
        multi_label=True,
    )
    messages = pl.LazyFrame({"id": [1, 2, 3, 4], "text": ["a card and a loan", "card, not a loan", "hello", "a loan"]})
    labels, *_, metrics = label_messages(apply_rules(messages, rules).votes, rules, model="majority")
    table = labels.collect()
    assert table.schema["tags"] == pl.List(pl.Enum(["card", "loan"]))
    assert table["tags"].to_list() == [["card", "loan"], ["card", "loan"], None, ["loan"]]
    assert table["probabilities"].to_list() == [[1, 1], [1, 0.5], None, [0, 1]]
    assert table["confidence"].to_list() == [1, 0.5, None, 1]
    assert metrics["labeled"] == 0.75


def test_with_multi_label_dev_rows_show_which_rules_are_accurate(rule_set: Any) -> None:
    random = np.random.default_rng(0)
    truth = random.random((600, 2)) < 0.4
    good = np.where(truth, random.random((600, 2)) < 0.9, random.random((600, 2)) < 0.05)
    noise = random.random(600) < 0.5
    rules = rule_set(
        {"name": "good_a", "tag": "a", "any": ["x"]},
        {"name": "good_b", "tag": "b", "any": ["x"]},
        {"name": "noise_a", "tag": "a", "any": ["x"]},
        multi_label=True,
    )
    columns = {"good_a": good[:, 0], "good_b": good[:, 1], "noise_a": noise}
    votes = pl.DataFrame(
        {"id": range(600)} | {n: pl.Series(np.where(v, 1.0, np.nan), nan_to_null=True) for n, v in columns.items()}
    )
    votes = votes.with_columns(pl.exclude("id").cast(pl.Int8))
    tags = ["|".join(t for t, has in zip("ab", row, strict=True) if has) for row in truth]
    dev = pl.LazyFrame({"id": range(200), "tags": tags[:200]})
    *_, plain = label_messages(votes.lazy(), rules, votes.head(200).lazy(), dev, model="majority", label="tags")
    labels, *_, learned = label_messages(votes.lazy(), rules, votes.head(200).lazy(), dev, label="tags")
    assert learned["dev_f1_micro"] > plain["dev_f1_micro"] + 0.1
    predicted = labels.collect().slice(200)["tags"].to_list()
    right = [set(t or []) == set("" if not s else s.split("|")) for t, s in zip(predicted, tags[200:], strict=True)]
    assert np.mean(right) > 0.8


@pytest.fixture
def chance(rule_set: Any) -> tuple[Any, pl.LazyFrame, pl.LazyFrame]:
    """Rules of pure chance on 300 dev rows: a model that judges rows it learned from looks better than chance."""
    random = np.random.default_rng(1)
    matrix = np.where(random.random((300, 40)) < 0.3, random.integers(0, 3, (300, 40)), -1)
    rules = rule_set(*({"name": f"r{j}", "tag": "a", "any": ["x"]} for j in range(40)), tags=TAGS)
    dev = pl.LazyFrame({"id": range(300), "tag": [TAGS[i] for i in random.integers(0, 3, 300)]})
    return rules, from_matrix(matrix, rules).lazy(), dev


@pytest.mark.parametrize("model", ["dawid_skene"])
def test_dev_figures_and_cross_fitted_labels_do_not_use_their_fold(chance: Any, model: Any) -> None:
    rules, votes, dev = chance
    labels, _gold, apart, metrics = label_messages(votes, rules, votes, dev, model=model)
    truth = dev.collect()["tag"].cast(pl.Enum(TAGS)).to_physical().to_numpy()

    def right(table: pl.DataFrame) -> float:
        """Of messages, which are the dev rows themselves."""
        return float((table["probabilities"].to_numpy().argmax(axis=1) == truth[table["id"].to_numpy()]).mean())

    assert right(labels.collect()) > 0.5
    assert metrics["dev_accuracy"] < 0.42
    predicted = apart.collect()
    own = predicted.filter("dev").select("id", own="fold")
    assert sorted(own["own"].unique()) == [0, 1, 2, 3, 4]
    messages = predicted.filter(~pl.col("dev")).join(own, on="id")
    assert messages.height == 5 * 300
    assert right(messages.filter(pl.col("fold") != pl.col("own"))) > 0.5
    assert right(messages.filter(pl.col("fold") == pl.col("own"))) < 0.42


def test_the_default_model_predicts_dev_rows_without_their_labels(rule_set: Any) -> None:
    """Among rules that are right there are many of chance: what is learned of those fits the rows it came from."""
    random = np.random.default_rng(0)
    truth = random.integers(0, 3, 300)
    good = np.where(random.random((300, 6)) < 0.5, truth[:, None], random.integers(0, 3, (300, 6)))
    noise = random.integers(0, 3, (300, 60))
    matrix = np.where(random.random((300, 66)) < 0.4, np.hstack([good, noise]), -1)
    rules = rule_set(*({"name": f"r{j}", "tag": "a", "any": ["x"]} for j in range(66)), tags=TAGS)
    votes = from_matrix(matrix, rules).lazy()
    dev = pl.LazyFrame({"id": range(300), "tag": [TAGS[t] for t in truth]})
    predicted = label_messages(votes, rules, votes, dev).cross_fitted
    assert predicted is not None
    table = predicted.collect()
    own = table.filter("dev").select("id", own="fold")
    messages = table.filter(~pl.col("dev")).join(own, on="id")

    def likelihood(rows: pl.DataFrame) -> float:
        p = rows["probabilities"].to_numpy()
        return float(np.log(p[np.arange(len(p)), truth[rows["id"].to_numpy()]]).mean())

    known = likelihood(messages.filter(pl.col("fold") != pl.col("own")))
    held_out = likelihood(messages.filter(pl.col("fold") == pl.col("own")))
    assert known > held_out + 0.02
    assert held_out > np.log(1 / 3) + 0.05


def test_cross_fitted_labels_of_a_dev_row_are_for_its_fold_and_null_without_a_vote(
    rules: Any, votes: Any, dev: Any
) -> None:
    predicted = label_messages(votes, rules, votes, dev, model="weighted").cross_fitted
    assert predicted is not None
    table = predicted.collect()
    assert table.schema == {
        "dev": pl.Boolean,
        "id": pl.String,
        "fold": pl.Int8,
        "probabilities": pl.Array(pl.Float32, 3),
    }
    ours, messages = table.filter("dev"), table.filter(~pl.col("dev"))
    assert set(ours["id"]) == {"w", "y", "z"}  # q has no votes at all
    assert set(messages["id"]) == {"w", "y", "z"}  # nor has x a vote
    both = ours.join(messages, on=["id", "fold"], how="inner")
    assert both.height == 3
    assert both["probabilities"].equals(both["probabilities_right"].rename("probabilities"))


def test_multi_label_are_cross_fitted_too(rule_set: Any) -> None:
    random = np.random.default_rng(0)
    rules = rule_set(
        *({"name": f"r{j}", "tag": TAGS[j % 3], "any": ["x"]} for j in range(45)), tags=TAGS, multi_label=True
    )
    cast = {
        rule.name: pl.Series(np.where(random.random(200) < 0.4, 1, None).tolist(), dtype=pl.Int8)
        for rule in rules.rules
    }
    votes = pl.LazyFrame({"id": range(200), **cast})
    truth = random.random((200, 3)) < 0.5
    dev = pl.LazyFrame(
        {"id": range(200), "tag": ["|".join(t for t, yes in zip(TAGS, row, strict=True) if yes) for row in truth]}
    )
    predicted = label_messages(votes, rules, votes, dev, model="dawid_skene").cross_fitted
    assert predicted is not None
    table = predicted.collect()
    own = table.filter("dev").select("id", own="fold")
    messages = table.filter(~pl.col("dev")).join(own, on="id")

    def likelihood(rows: pl.DataFrame) -> float:
        """Mean log-likelihood of the true yes or no."""
        predicted, has = rows["probabilities"].to_numpy(), truth[rows["id"].to_numpy()]
        return float(np.log(np.where(has, predicted, 1 - predicted)).mean())

    known = likelihood(messages.filter(pl.col("fold") != pl.col("own")))
    held_out = likelihood(messages.filter(pl.col("fold") == pl.col("own")))
    assert known > np.log(0.5) > held_out


def test_gold_rows_are_labeled_by_the_same_model_without_influence_on_it(rules: Any, votes: Any, dev: Any) -> None:
    gold_votes = votes.reverse().with_columns(pl.col("id") + "-gold")
    alone = label_messages(votes, rules, votes, dev)
    labels, gold, _apart, metrics = label_messages(votes, rules, votes, dev, gold_votes)
    assert alone.gold_labels is None
    assert labels.collect().equals(alone.labels.collect())
    assert metrics == alone.metrics
    assert gold is not None
    assert gold.collect().equals(labels.collect().reverse().with_columns(pl.col("id") + "-gold"))


def test_a_single_rule_labels_rows(rule_set: Any) -> None:
    rules = rule_set({"name": "r", "tag": "a", "any": ["x"]}, tags=TAGS)
    votes = from_matrix(np.array([[0], [-1]]), rules).lazy()
    for model in ("majority", "dawid_skene"):
        assert label_messages(votes, rules, model=model).labels.collect()["tag"].to_list() == ["a", None]
    with pytest.raises(RulesError, match="'snorkel' needs at least three rules, but there is 1"):
        label_messages(votes, rules, model="snorkel")


def test_a_tag_without_a_vote_and_too_few_dev_rows_are_warned_of(rules: Any, votes: Any, dev: Any) -> None:
    some = votes.with_columns(r3=pl.lit(None, dtype=pl.Enum(TAGS)), r0=pl.lit("a", dtype=pl.Enum(TAGS)))
    with structlog.testing.capture_logs() as logs:
        *_, metrics = label_messages(some, rules, votes, dev.head(2))
    assert metrics["tags_without_votes"] == 1
    assert (metrics["dev_rows"], metrics["dev_too_few"]) == (2, 1)
    events = {log["event"]: log for log in logs}
    assert events["label.tags_without_votes"]["tags"] == ["c"]
    assert events["label.few_dev_rows"]["dev_rows"] == 2


def test_dev_rows_without_votes_are_left_out(rules: Any, votes: Any, dev: Any) -> None:
    with structlog.testing.capture_logs() as logs:
        *_, metrics = label_messages(votes, rules, votes, dev)
    assert metrics["dev_rows"] == 3
    assert next(log for log in logs if log["event"] == "dev.rows_without_votes")["labeled"] == 4


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            lambda v, d: (v, v, d.with_columns(id=pl.lit("?") + pl.col("id"))),
            DataError,
            "no key of the 4 labeled dev rows",
        ),
        (
            lambda v, d: (v, v, d.with_columns(id=1).head(1)),
            SchemaDrift,
            "column 'id': dev has Int32, dev_votes String",
        ),
        (
            lambda v, d: (v.with_columns(id=pl.int_range(pl.len())), v, d),
            SchemaDrift,
            "column 'id': votes has Int64, dev String",
        ),
        (lambda v, d: (v, None, d), DataError, "dev is given, but dev_votes is not"),
        (lambda v, d: (v, v, None), DataError, "dev_votes is given, but dev is not"),
        (lambda v, d: (v, v, d.rename({"tag": "tags"})), MissingColumn, "no column 'tag' (did you mean 'tags'?)"),
        (
            lambda v, d: (v, v, d.with_columns(tag=pl.lit("z"))),
            DataError,
            "dev: row 'w' has the label 'z', which is not one of the tags",
        ),
        (lambda v, d: (v, v, d.with_columns(tag=1)), SchemaDrift, "column 'tag': expected a tag, found Int32"),
        (lambda v, d: (v, v, pl.concat([d, d])), DuplicateKeys, "names 2 rows"),
        (lambda v, d: (pl.concat([v, v]), None, None), DuplicateKeys, "column 'id': 'w' names 2 rows"),
        (lambda v, d: (v.head(0), None, None), DataError, "the votes have no rows"),
        (lambda v, d: (v.drop("id"), None, None), MissingColumn, "votes has no column 'id'"),
        (lambda v, d: (v.drop("r2"), None, None), MissingColumn, "the votes have no column for rule 'r2'"),
        (
            lambda v, d: (v.with_columns(r2=pl.lit("zz")), None, None),
            RulesError,
            "votes of rule 'r2': 'zz' is not a tag",
        ),
    ],
)
def test_invalid_inputs_are_refused(rules: Any, votes: Any, dev: Any, change: Any, error: Any, message: str) -> None:
    rows, dev_votes, dev_rows = change(votes, dev)
    with pytest.raises(error) as caught:
        label_messages(rows, rules, dev_votes, dev_rows)
    assert message in str(caught.value)


def test_with_dev_rows_dawid_skene_is_far_above_majority_on_banking77(shared_data: Path, rule_set: Any) -> None:
    folder = shared_data / "banking77"
    words = json.loads((folder / "gpt4o_keywords.json").read_text())
    tags = json.loads((folder / "categories.json").read_text())
    name_of = {tag.lower().strip("?"): tag for tag in tags}
    rules = rule_set(
        *(
            {"name": f"r{i}_{j}", "tag": name_of[tag.lower().strip("?")], "any": [word]}
            for i, (tag, keywords) in enumerate(words.items())
            for j, word in enumerate(dict.fromkeys(keywords))
        ),
        tags=tags,
    )
    train = pl.read_csv(folder / "train.csv").with_row_index("id").sample(fraction=1.0, shuffle=True, seed=0)
    test = pl.read_csv(folder / "test.csv").with_row_index("id")
    votes = apply_rules(test.lazy(), rules).votes
    dev_votes = apply_rules(train.head(1000).lazy(), rules).votes

    def accuracy(model: Any) -> float:
        dev = train.head(1000).lazy()
        labels = label_messages(votes, rules, dev_votes, dev, model=model, label="category").labels.collect()
        return float((labels["tag"].cast(pl.String) == test["category"]).fill_null(value=False).mean() or 0)

    assert accuracy("majority") == pytest.approx(0.33, abs=0.02)
    assert accuracy("dawid_skene") > 0.52


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "dawid_skeen"}, "there is no label model 'dawid_skeen' (did you mean 'dawid_skene'?)"),
        ({"iterations": 0, "model": "dawid_skene"}, "parameter 'iterations': expected a number of at least 1, found 0"),
        (
            {"iterations": -1, "model": "dawid_skene"},
            "parameter 'iterations': expected a number of at least 1, found -1",
        ),
        ({"epochs": 0, "model": "snorkel_fast"}, "parameter 'epochs': expected a number of at least 1, found 0"),
        ({"epochs": -5, "model": "snorkel_fast"}, "parameter 'epochs': expected a number of at least 1, found -5"),
        ({"seed": -1}, "parameter 'seed': expected a number of at least 0, found -1"),
        ({"memory": "4 GB"}, "parameter 'memory': '4 GB' is not a memory quantity"),
    ],
)
def test_a_parameter_out_of_range_is_named(rules: Any, votes: Any, settings: Any, message: str) -> None:
    with pytest.raises(SpecError) as error:
        label_messages(votes, rules, **settings)
    assert error.value.what.startswith(message)


def test_unanimous_votes_that_dev_rows_contradict_are_counted_and_warned_of(rule_set: Any) -> None:
    rules = rule_set(
        {"name": "good", "tag": "a", "any": ["x"]}, {"name": "bad", "tag": "b", "any": ["x"]}, tags=["a", "b"]
    )
    matrix = np.array([[0, -1]] * 60 + [[-1, 1]] * 40)
    votes = from_matrix(matrix, rules).lazy()
    dev = pl.LazyFrame({"id": range(100), "tag": ["a"] * 58 + ["b"] * 2 + ["a"] * 38 + ["b"] * 2})
    assert label_messages(votes, rules).metrics["contradicted"] == 0
    with structlog.testing.capture_logs() as logs:
        assert label_messages(votes, rules, votes, dev).metrics["contradicted"] == 0.4
    assert next(log for log in logs if log["event"] == "label.unanimous_votes_contradicted")["rows"] == 40
