"""`refine_rules`: its gains and unbiased figures, the rules file, the LLM, and resuming a killed run."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
import yaml
from tests.rigs.llm_server import LlmServer, status

from kommuna.errors import DataError, DuplicateKeys, LlmSettings, LlmUnreachable, MissingColumn, SchemaDrift, SpecError
from kommuna.runtime.binding import find_step
from kommuna.spec.llm import Budget, LlmEndpoint, Llms
from kommuna.spec.rules import RegexRule, RuleSet
from kommuna.spec.step import StepContext, StepResult, StepSpec, StoreAddress
from kommuna.steps.labeling.apply import apply_rules
from kommuna.steps.labeling.label import label_messages
from kommuna.steps.labeling.refine.rounds import Rounds
from kommuna.steps.labeling.refine.step import refine_rules
from kommuna.steps.llm.client import Llm
from kommuna.steps.llm.session import LlmRetryPolicy
from kommuna.store import Store
from kommuna.waiting import wait_until

POOR = {
    "tags": ["card", "loan", "fees"],
    "rules": [
        {"name": "mine", "tag": "card", "any": ["card stolen"]},
        {"name": "sums", "tag": "fees", "sql": "length(text) > 1000"},
    ],
}


@pytest.fixture(scope="module")
def made(unlabeled, dev, gold):
    return refine_rules(unlabeled, dev.lazy(), None, gold.lazy())


def test_macro_f1_rises_from_a_start_without_rules(made):
    assert made.metrics["dev_f1_start"] == made.metrics["gold_f1_start"] == 0
    assert made.metrics["gold_f1"] > 0.8
    assert made.metrics["dev_f1"] > 0.8
    assert made.metrics["rules"] == made.metrics["rules_written"] == len(made.rules.rules.rules)


def test_macro_f1_on_dev_never_decreases(made):
    assert made.rounds["dev_f1"].is_sorted()
    assert made.rounds["round"].to_list() == list(range(made.rounds.height))
    assert made.rounds["rules_in"][-1] == 0 or made.rounds.height == 11


@pytest.mark.slow
def test_the_figure_on_dev_is_unbiased_if_tags_are_random(unlabeled, dev):
    """Rules that were selected and evaluated on the same rows would look good."""
    shuffled = dev.with_columns(pl.col("tag").shuffle(seed=5))
    start = RuleSet.read(POOR, where="test")
    found = refine_rules(unlabeled, shuffled.lazy(), start)
    assert found.metrics["dev_f1"] < 0.42


@pytest.mark.slow
def test_gold_influences_no_rule(made, unlabeled, dev, gold):
    wrong = gold.with_columns(pl.col("tag").shuffle(seed=1))
    other = refine_rules(unlabeled, dev.lazy(), None, wrong.lazy())
    assert other.rules.rules == made.rules.rules
    assert other.metrics["gold_f1"] < made.metrics["gold_f1"]


@pytest.mark.slow
def test_given_rules_are_kept_and_come_first(unlabeled, dev):
    given = RuleSet.read(POOR, where="test")
    better = refine_rules(unlabeled, dev.lazy(), given)
    names = [rule.name for rule in better.rules.rules.rules]
    assert {"mine", "sums"} <= set(names)
    assert len(names) > 2
    assert better.metrics["dev_f1"] > better.metrics["dev_f1_start"] + 0.1
    assert better.rules.rules.tags == given.tags


@pytest.mark.slow
def test_the_default_tag_needs_no_rules(unlabeled, dev):
    start = {"tags": ["card", "loan", "fees"], "otherwise": "fees"}
    rules = RuleSet.read(start | {"rules": [{"name": "mine", "tag": "card", "any": ["stolen"]}]}, where="test")
    made = refine_rules(unlabeled, dev.lazy(), rules, rounds=2)
    start_f1 = made.metrics["dev_f1_start"]
    bare = refine_rules(unlabeled, dev.lazy(), rules.model_copy(update={"otherwise": None}), rounds=0)
    assert start_f1 > bare.metrics["dev_f1_start"] + 0.1
    assert made.metrics["dev_f1"] > start_f1 + 0.3
    assert made.rules.rules.otherwise == "fees"
    assert "loan" in {rule.tag for rule in made.rules.rules.rules}
    assert not [rule for rule in made.rules.rules.rules if rule.tag == "fees" and not rule.against]


def test_the_rules_file_is_valid_and_has_the_origin_of_each_rule(made, tmp_path, unlabeled):
    path = tmp_path / "rules.yaml"
    made.rules.save(path)
    read = RuleSet.from_yaml(path)
    assert read == made.rules.rules == type(made.rules).load(path).rules
    text = path.read_text()
    comments = [line for line in text.splitlines() if line.strip().startswith("# right ")]
    assert len(comments) == len(read.rules)
    assert "round 1, miner: log-odds" in text
    assert yaml.safe_load(text)["multi_label"] is False
    assert apply_rules(unlabeled, read).metrics["coverage"] == pytest.approx(made.metrics["coverage"], abs=1e-9)


def test_the_report_has_plots_of_the_rounds_and_the_refused_proposals(made):
    page = made.report.html
    assert page.count("<svg") == 3
    for heading in (
        "F1 and coverage by round",
        "Rules kept and dropped by round",
        "Cost by round",
        "Rejected proposals",
    ):
        assert heading in page
    assert "http://" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    )


@pytest.mark.slow
def test_rows_may_have_multi_label(unlabeled, dev):
    both = dev.with_columns(
        text=pl.col("text") + " and " + pl.col("text").shift(1, fill_value="hello"),
        tag=pl.concat_list("tag", pl.col("tag").shift(1)).list.drop_nulls().list.unique().list.sort().list.join("|"),
    )
    better = refine_rules(unlabeled, both.lazy(), multi_label=True)
    assert better.rules.rules.multi_label
    assert set(better.rules.rules.tags) == {"card", "loan", "fees"}
    assert better.metrics["dev_f1"] > 0.7


def test_dev_without_a_signal_is_an_error(unlabeled, dev):
    blank = dev.with_columns(text=pl.lit("hello"))
    with pytest.raises(DataError, match="no rule improves macro F1 on dev"):
        refine_rules(unlabeled, blank.lazy())


def test_an_empty_list_of_proposers_is_an_error(unlabeled, dev):
    with pytest.raises(SpecError, match="the list of proposers is empty"):
        refine_rules(unlabeled, dev.lazy(), proposers=[])


def test_an_llm_that_is_not_configured_is_an_error_at_once(unlabeled, dev):
    with pytest.raises(LlmSettings, match="no heavy LLM is configured"):
        refine_rules(unlabeled, dev.lazy(), proposers=["llm"])


def test_it_is_a_step_with_injected_clients():
    signature = find_step("kommuna.steps:refine_rules")
    assert list(signature.inputs) == ["messages", "dev", "rules", "gold"]
    assert set(signature.injected) == {"llm", "kept", "context"}


# --- votes on dev ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_label_model_has_the_same_accuracy_on_dev_votes_as_on_gold(make_messages, unlabeled, gold):
    """Each text has four words of noise: rules learn the noise, and their own votes on dev would overestimate them."""
    noise = [f"x{i}" for i in range(60)]

    def noisy(rows, seed):
        random = np.random.default_rng(seed)
        words = [" ".join(random.choice(noise, 4)) for _ in range(rows.height)]
        blank = np.arange(rows.height) % 2 == 0
        text = [own if lost else f"{text} {own}" for text, own, lost in zip(rows["text"], words, blank, strict=True)]
        return rows.with_columns(text=pl.Series(text))

    messages, dev, other = noisy(unlabeled.collect(), 1), noisy(make_messages(200, 2, "d"), 2), noisy(gold, 3)
    made = refine_rules(messages.lazy(), dev.lazy())
    rules = made.rules.rules
    votes, biased_votes, gold_votes = (apply_rules(rows.lazy(), rules).votes for rows in (messages, dev, other))
    labeled = label_messages(votes, rules, made.dev_votes.lazy(), dev.lazy(), gold_votes)
    joined = other.join(labeled.gold_labels.collect(), on="id", suffix="_label")
    right = float((joined["tag"] == joined["tag_label"].cast(pl.String)).fill_null(False).mean())
    assert labeled.metrics["dev_accuracy"] == pytest.approx(right, abs=0.07)
    assert set(made.dev_votes.columns) == {"id", *(rule.name for rule in rules.rules)}
    biased = label_messages(votes, rules, biased_votes, dev.lazy()).metrics["dev_accuracy"]
    assert biased >= labeled.metrics["dev_accuracy"]


@pytest.mark.slow
def test_votes_of_given_rules_on_dev_are_their_own(unlabeled, dev):
    given = RuleSet.read(POOR, where="test")
    better = refine_rules(unlabeled, dev.lazy(), given)
    plain = apply_rules(dev.lazy(), better.rules.rules).votes.collect()
    assert better.dev_votes.select("id", "mine", "sums").equals(plain.select("id", "mine", "sums"))
    assert better.dev_votes.schema == plain.select(better.dev_votes.columns).schema


# --- gold --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (lambda gold, dev: gold.drop("text"), MissingColumn, "gold has no column 'text'"),
        (lambda gold, dev: gold.rename({"tag": "tags"}), MissingColumn, "no column 'tag'"),
        (lambda gold, dev: pl.concat([gold, gold.head(1)]), DuplicateKeys, "'g0' names 2 rows"),
        (
            lambda gold, dev: gold.with_columns(id=pl.int_range(pl.len())),
            SchemaDrift,
            "column 'id': dev has String, gold Int64",
        ),
        (lambda gold, dev: pl.concat([gold, dev.head(3)]), DataError, "3 of 303 gold rows are dev rows too"),
        (lambda gold, dev: gold.with_columns(tag=pl.lit(None, pl.String)), DataError, "gold has no labeled rows"),
    ],
)
def test_invalid_gold_is_refused_before_the_first_round(unlabeled, dev, gold, tmp_path, change, kind, message):
    kept = Rounds(StoreAddress(url=tmp_path.as_uri()))
    settings = {"kept": kept, "context": StepContext(team="team", key="c" * 64)}
    with pytest.raises(kind, match=message):
        refine_rules(unlabeled, dev.lazy(), None, change(gold, dev).lazy(), **settings)
    assert not list(tmp_path.rglob("round-*.json"))


def test_a_gold_tag_that_is_not_in_the_given_rule_set_is_refused(made, unlabeled, dev, gold):
    new = gold.head(1).with_columns(id=pl.lit("new"), tag=pl.lit("zebra"))
    with pytest.raises(DataError, match="gold: row 'new' has the label 'zebra', which is not one of the tags"):
        refine_rules(unlabeled, dev.lazy(), made.rules.rules, pl.concat([gold, new]).lazy())


@pytest.mark.slow
def test_without_given_rules_a_gold_tag_that_dev_lacks_counts_as_wrong(made, unlabeled, dev, gold):
    """A fourth tag with an F1 of 0 makes the mean three quarters of that of three tags, with a small difference."""
    new = gold.head(1).with_columns(id=pl.lit("new"), tag=pl.lit("zebra"))
    other = refine_rules(unlabeled, dev.lazy(), None, pl.concat([gold, new]).lazy())
    assert other.rules.rules == made.rules.rules
    assert other.metrics["gold_f1"] == pytest.approx(0.75 * made.metrics["gold_f1"], abs=0.01)


# --- with an LLM -------------------------------------------------------------------------------------------------


@pytest.fixture
def server():
    started = LlmServer().start()
    yield started
    started.stop()


def heavy(server):
    endpoint = LlmEndpoint(url=server.url, model="heavy", input_price=1.0, output_price=1.0)
    return Llm(Llms(heavy=endpoint), retry_policy=LlmRetryPolicy(tries=2, pause=0.01))


def answers(server, answer_with, tokens=110):
    """Makes the server return a good rule for the tag of the request, among bad ones."""

    def answer(handler):
        tag = json.loads(handler.request_body["messages"][-1]["content"])["tag"]
        words = {"card": ["card"], "loan": ["loan", "mortgage", "credit"], "fees": ["fee", "commission", "charged"]}
        plain = {"name": "llm", "tag": tag, "any": None, "regex": None, "against": False}
        rules = [
            plain | {"any": words[tag]},
            plain | {"regex": "."},
            plain | {"regex": r"(.+)+\1"},
            plain | {"tag": "zebra", "any": ["x"]},
        ]
        return answer_with(handler, json.dumps({"rules": rules}), tokens=tokens)

    server.always = answer


def test_good_rules_of_the_llm_are_added_and_its_cost_is_reported(server, answer_with, unlabeled, dev):
    answers(server, answer_with)
    made = refine_rules(unlabeled, dev.lazy(), proposers=["llm"], llm=heavy(server))
    written = made.rules.rules.rules
    assert {rule.tag for rule in written} == {"card", "loan", "fees"}
    assert not any(isinstance(rule, RegexRule) for rule in written)
    assert made.metrics["dev_f1"] > 0.8
    assert made.metrics["llm_requests"] == len(server.received)
    assert made.metrics["llm_cost"] == pytest.approx(110e-6 * len(server.received))
    assert made.rounds["llm_cost"].sum() == pytest.approx(made.metrics["llm_cost"])
    for reason in ("votes on nearly every message", "a regex with a back-reference", "an unknown tag"):
        assert reason in made.report.html


def test_rules_are_kept_if_the_budget_is_spent_during_a_round(server, answer_with, unlabeled, dev):
    answers(server, answer_with, tokens=6_000)
    made = refine_rules(unlabeled, dev.lazy(), proposers=["llm"], llm=heavy(server), budget=Budget(tokens=8_000))
    assert made.metrics["rules"] == made.metrics["llm_requests"] == 1
    assert made.metrics["llm_tokens_in"] + made.metrics["llm_tokens_out"] == 6_000
    assert "its budget is spent" in made.report.html


@pytest.mark.slow
def test_the_miner_continues_if_the_budget_of_the_llm_is_spent(server, answer_with, unlabeled, dev):
    answers(server, answer_with)
    made = refine_rules(unlabeled, dev.lazy(), proposers=["miner", "llm"], llm=heavy(server), budget=Budget(tokens=0))
    assert server.received == []
    assert made.metrics["dev_f1"] > 0.8


# --- stored rounds -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_resumed_run_has_the_same_result(made, unlabeled, dev, gold, tmp_path):
    kept = Rounds(StoreAddress(url=tmp_path.as_uri()))
    context = StepContext(team="team", key="a" * 64)
    whole = refine_rules(unlabeled, dev.lazy(), None, gold.lazy(), kept=kept, context=context)
    files = sorted(tmp_path.rglob("round-*.json"))
    assert len(files) == whole.rounds.height
    for path in files[2:]:
        path.unlink()
    first = files[1].read_bytes()
    again = refine_rules(unlabeled, dev.lazy(), None, gold.lazy(), kept=kept, context=context)
    assert again.rules.rules == whole.rules.rules == made.rules.rules
    assert again.rounds.drop("seconds").equals(whole.rounds.drop("seconds"))
    assert files[1].read_bytes() == first  # it was not repeated


def attempt(server, tmp_path, *, light=None):
    """Returns the clients and the context of one attempt at the same work."""
    shared = StoreAddress(url=tmp_path.as_uri())
    heavy_endpoint = LlmEndpoint(url=server.url, model="heavy", input_price=1.0, output_price=1.0, concurrency=1)
    light_endpoint = LlmEndpoint(url=light.url, model="tiny", input_price=1.0, output_price=1.0) if light else None
    llm = Llm(Llms(heavy=heavy_endpoint, light=light_endpoint), shared, LlmRetryPolicy(tries=1), work="b" * 64)
    return {"llm": llm, "kept": Rounds(shared), "context": StepContext(team="team", key="b" * 64)}


@pytest.mark.slow
def test_a_round_that_was_cut_off_is_not_asked_again_and_its_cost_is_told(
    server, answer_with, unlabeled, dev, tmp_path
):
    answers(server, answer_with)
    good = server.always
    server.faults, server.always = [good, good], status(503, "down")
    with pytest.raises(LlmUnreachable):
        refine_rules(unlabeled, dev.lazy(), proposers=["llm"], rounds=1, **attempt(server, tmp_path))
    assert len(server.received) == 3
    server.always = good
    made = refine_rules(unlabeled, dev.lazy(), proposers=["llm"], rounds=1, **attempt(server, tmp_path))
    assert len(server.received) == 4  # only the third tag's
    assert made.metrics["llm_requests"] == 4
    assert made.metrics["llm_tokens_in"] + made.metrics["llm_tokens_out"] == 110 * 3
    assert made.metrics["llm_cost"] == pytest.approx(110e-6 * 3)
    assert len(made.rules.rules.rules) == 3


@pytest.mark.slow
def test_the_spending_of_killed_runs_counts_against_the_budget(server, answer_with, unlabeled, dev, tmp_path):
    answers(server, answer_with, tokens=6_000)
    good = server.always
    server.faults, server.always = [good], status(503, "down")
    with pytest.raises(LlmUnreachable):
        refine_rules(
            unlabeled, dev.lazy(), proposers=["llm"], **attempt(server, tmp_path), budget=Budget(tokens=20_000)
        )
    server.always = good
    before = len(server.received)
    made = refine_rules(
        unlabeled, dev.lazy(), proposers=["llm"], **attempt(server, tmp_path), budget=Budget(tokens=8_000)
    )
    assert len(server.received) == before  # 6,000 of 8,000 are spent
    assert made.metrics["llm_tokens_in"] + made.metrics["llm_tokens_out"] == 6_000
    assert "its budget is spent" in made.report.html


def test_an_error_after_the_loop_tells_its_cost(server, answer_with, unlabeled, dev):
    answers(server, answer_with)
    blank = dev.with_columns(text=pl.lit("hello"))
    with pytest.raises(DataError, match=r"tried; LLM requests: 3, tokens: 330, cost: 0\.00"):
        refine_rules(unlabeled, blank.lazy(), proposers=["llm"], llm=heavy(server), rounds=1)


ASKING = {
    "tags": ["card", "loan", "fees"],
    "rules": [
        {"name": "mine", "tag": "card", "any": ["card stolen"]},
        {"name": "asked", "tag": "loan", "ask": "Does it mention loan?"},
    ],
}


@pytest.fixture
def light_server():
    started = LlmServer().start()
    yield started
    started.stop()


@pytest.mark.slow
def test_ask_rules_are_asked_once_about_each_text_and_their_cost_is_told(light_server, unlabeled, dev, gold):
    given = RuleSet.read(ASKING, where="test")
    llm = Llm(Llms(light=LlmEndpoint(url=light_server.url, model="tiny", input_price=1.0, output_price=1.0)))
    made = refine_rules(unlabeled, dev.lazy(), given, gold.lazy(), rounds=1, llm=llm)
    texts = {*unlabeled.collect()["text"], *dev["text"], *gold["text"]}
    assert len(light_server.pairs) == len(texts) == len(set(light_server.pairs))
    metrics = made.metrics
    assert metrics["llm_requests"] == metrics["ask_requests"] == len(light_server.received)
    assert metrics["llm_cost"] == metrics["ask_cost"] == pytest.approx(110e-6 * len(light_server.received))
    assert f"{metrics['llm_cost']:.2f}" in made.report.html
    assert made.dev_votes["asked"].drop_nulls().len() > 0
    gold_only = set(gold["text"]) - {*unlabeled.collect()["text"], *dev["text"]}
    assert {text for text, _ in light_server.pairs[-len(gold_only) :]} == gold_only  # after the loop


@pytest.mark.slow
def test_the_budget_holds_for_ask_rules_and_proposals_together(
    server, light_server, answer_with, unlabeled, dev, tmp_path
):
    answers(server, answer_with)
    given = RuleSet.read(ASKING, where="test")
    settings = {"proposers": ["llm"], "rounds": 1, "budget": Budget(tokens=0)}
    made = refine_rules(unlabeled, dev.lazy(), given, **settings, **attempt(server, tmp_path, light=light_server))
    assert (light_server.received, server.received) == ([], [])
    assert made.dev_votes["asked"].null_count() == dev.height
    assert made.metrics["ask_unasked"] > 0
    settings["budget"] = Budget(tokens=20_000)
    made = refine_rules(unlabeled, dev.lazy(), given, **settings, **attempt(server, tmp_path, light=light_server))
    billed = 110 * (len(light_server.received) + len(server.received))
    assert made.metrics["llm_tokens_in"] + made.metrics["llm_tokens_out"] == billed <= 20_000
    assert len(light_server.received) > 10


@pytest.mark.slow
def test_a_killed_step_loses_at_most_one_round(unlabeled, dev, gold, tmp_path):
    """The runtime is killed by SIGKILL as soon as round 1 is stored; then the same step is run again."""
    unlabeled.collect().write_parquet(tmp_path / "messages.parquet")
    dev.write_parquet(tmp_path / "dev.parquet")
    store = StoreAddress(url=(tmp_path / "store").as_uri())
    spec = StepSpec.model_validate(
        {
            "function": "kommuna.steps:refine_rules", "team": "support", "store": store,
            "inputs": {name: {"url": str(tmp_path / f"{name}.parquet")} for name in ("messages", "dev")},
        }
    )  # fmt: skip
    (tmp_path / "spec.json").write_text(spec.model_dump_json())
    command = [sys.executable, "-m", "kommuna.runtime", "--die-with-parent", "--spec", str(tmp_path / "spec.json")]
    command += ["--result", str(tmp_path / "result.json")]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    shared = tmp_path / "store/support/shared/refine"
    (kept,) = wait_until("its first round is kept", lambda: list(shared.rglob("round-001.json")), every=0.01)
    assert first.poll() is None, "it ended before it could be killed"
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    assert not (tmp_path / "result.json").exists()
    done = kept.read_bytes()
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    result = StepResult.model_validate_json((tmp_path / "result.json").read_bytes())
    assert result.exit_code == 0, result.message
    assert "refine.resumed" in again.stdout + again.stderr
    assert kept.read_bytes() == done
    manifest = Store(spec.store, "support").manifest(result.key)
    assert manifest is not None
    assert manifest.outputs["rules"].suffix == ".yaml"
    text = Store(spec.store, "support").read(manifest.outputs["rules"]).decode()
    assert RuleSet.read(yaml.safe_load(text), where="") == refine_rules(unlabeled, dev.lazy()).rules.rules
