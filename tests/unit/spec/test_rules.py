"""Rules as people write them: what is read, and what is refused with which words."""

import copy
import json
import pickle
from pathlib import Path

import pytest

from kommuna.errors import RulesError, SpecError
from kommuna.spec.rules import KINDS, KeywordRule, Rule, RuleSet

ONE_OF_EACH = {
    "keywords": {"any": ["lost"], "stem": "english"},
    "pattern": {"regex": "lost|stolen"},
    "large": {"sql": "amount > 1000"},
    "judged": {"python": "bank.rules:judge"},
    "asked": {"ask": "Is a card lost?", "no_is_against": True},
}
GROUPED = {"name": "a", "tag": "card", "any": ["x"], "group": "cards"}


def read(**changes: object) -> RuleSet:
    plain: dict[str, object] = {
        "tags": ["card", "loan"],
        "rules": [{"name": "plastic", "tag": "card", "any": ["card"]}],
    }
    return RuleSet.read(plain | changes, where="rules.yaml")


def test_a_rules_file_is_read_with_its_kinds(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(
        "tags: [card, loan]\n"
        "rules:\n"
        "  - {name: plastic, tag: card, any: [карта, plastic card]}\n"
        "  - {name: borrow, tag: loan, regex: 'loan|credit'}\n"
        "  - {name: big, tag: loan, sql: amount > 1000}\n"
        "  - {name: judged, python: 'bank.rules:judge'}\n"
        "  - {name: asked, tag: card, ask: 'Is it about a card?', against: true}\n",
        encoding="utf-8",
    )
    rules = RuleSet.from_yaml(path)
    assert [rule.kind for rule in rules.rules] == ["any", "regex", "sql", "python", "ask"]
    assert rules.categories == ("card", "loan", "!card")
    assert [rules.vote_of(rule) for rule in rules.rules] == ["card", "loan", "loan", None, "!card"]


def test_where_rows_have_multi_label_a_rule_votes_one_or_zero() -> None:
    rules = read(
        multi_label=True,
        rules=[{"name": "a", "tag": "card", "any": ["x"]}, {"name": "b", "tag": "card", "any": ["y"], "against": True}],
    )
    assert [rules.vote_of(rule) for rule in rules.rules] == [1, 0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rules": [{"name": "a", "tag": "card", "keywords": ["x"]}]}, "unknown key 'keywords'"),
        ({"rules": [{"name": "a", "tag": "card", "regx": "x"}]}, "did you mean 'regex'?"),
        ({"rules": [{"name": "a", "tag": "card", "regex": "(x"}]}, "rule 'a' has a bad regex: missing )"),
        ({"rules": [{"name": "a", "tag": "cards", "any": ["x"]}]}, "unknown tag 'cards' (did you mean 'card'?)"),
        ({"rules": [{"name": "a", "tag": "card", "any": ["x"]}] * 2}, "duplicate rule name 'a'"),
        ({"tags": ["card", "card"]}, "duplicate tag 'card'"),
        ({"rules": [{"name": "a", "tag": "card"}]}, f"needs exactly one of {', '.join(KINDS)}; it has none"),
        ({"rules": [{"name": "a", "tag": "card", "any": ["x"], "regex": "x"}]}, "it has any, regex"),
        ({"rules": [{"name": "a", "any": ["x"]}]}, "rule 'a' names no tag"),
        ({"rules": [{"name": "a", "python": "m:f", "against": True}]}, "rule 'a' is against, but names no tag"),
        ({"rules": [{"name": "a", "tag": "card", "any": ["ok", " \t"]}]}, "rule 'a' has the blank keyword ' \\t'"),
        ({"rules": [{"name": "a", "tag": "card", "any": []}]}, "rules.0.any"),
        ({"rules": []}, "rules: needs at least 1 item, has 0"),
        ({"multi_label": True, "rules": [{"name": "a", "python": "m:f"}]}, "each rule votes for one"),
        ({"multi_label": True, "tags": ["card", "a|b"]}, "a tag with '|'"),
        ({"tags": ["card", "!loan"]}, "tags.1: the tag '!loan' begins with !"),
        ({"tags": ["card", " "]}, "tags.1: the tag ' ' is blank, or has white space at an end"),
        ({"tags": ["card", " loan"]}, "the tag ' loan' is blank, or has white space at an end"),
        ({"tags": ["card", False]}, "tags.1: expected a text, found false: put it in quotes (YAML reads yes, no"),
        ({"tags": ["card", 1]}, "tags.1: expected a text, found 1: put it in quotes"),
        ({"rules": [{"name": "a", "tag": "card", "any": [24]}]}, "rules.0.any.0: expected a text, found 24"),
        ({"rules": [{"name": "a", "tag": "card", "regex": ""}]}, "rule 'a' has an empty regex"),
        ({"rules": [{"name": "a", "tag": "card", "regex": "x", "stem": "russian"}]}, "rule 'a' has `stem`, which goes with `any`, not with `regex`"),
        ({"rules": [{"name": "a", "tag": "card", "any": ["x"], "stem": "rusian"}]}, "rules.0.stem"),
        ({"rules": [GROUPED], "off": ["carsd"]}, "no rule belongs to the group 'carsd', which is off (did you mean 'cards'?)"),
        ({"rules": [GROUPED], "off": ["cards"]}, "every group is off: no rule is left"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(changes: dict[str, object], said: str) -> None:
    with pytest.raises(SpecError) as error:
        read(**changes)
    assert said in str(error.value)
    assert "rules.yaml" in str(error.value)


def test_a_group_that_is_off_is_not_applied_but_its_rules_are_checked() -> None:
    other = {"name": "b", "tag": "card", "any": ["y"]}
    rules = read(rules=[GROUPED, other], off=["cards"])
    assert [rule.name for rule in rules.rules] == ["b"]
    assert rules.groups == ()
    assert RuleSet.read(rules.model_dump(), where="again") == rules
    with pytest.raises(SpecError, match="rule 'bad' names no tag"):
        read(rules=[{"name": "bad", "any": ["x"], "group": "cards"}, other], off=["cards"])


def test_one_group_can_be_taken_alone() -> None:
    rules = read(rules=[GROUPED, {"name": "b", "tag": "card", "any": ["y"], "group": "rest"}])
    assert rules.groups == ("cards", "rest")
    assert [rule.name for rule in rules.only("cards").rules] == ["a"]
    with pytest.raises(RulesError, match="no rule belongs to the group 'card'"):
        rules.only("card")


def test_a_rule_is_frozen() -> None:
    rule = Rule(name="a", tag="card", any=("x",))
    with pytest.raises(ValueError, match="frozen"):
        rule.name = "b"  # type: ignore[misc]


def test_the_default_tag_is_one_of_the_tags_and_a_group_alone_has_none() -> None:
    assert read(otherwise="loan").default == 1
    assert read().default is None
    assert read(otherwise="loan", rules=[GROUPED]).only("cards").otherwise is None
    with pytest.raises(SpecError, match=r"`otherwise` is the unknown tag 'laon' \(did you mean 'loan'\?\)"):
        read(otherwise="laon")


TRAPS = {
    "any: [договор #5]": "'договор #5]' is read as 'договор': the rest is a comment",
    "any:\n      - договор #5\n      - x": "'договор #5' is read as 'договор': the rest is a comment",
    'regex: "\\bкарта\\b"': r"in double quotes \b is a backspace, not a word's edge",
    'regex: "\\N{DIGIT ONE}"': r"in double quotes \N is a line break",
    'regex: "\\d"': "is not valid YAML: found unknown escape character 'd'",
    "any: " + "[" * 5000 + "]" * 5000: "is nested too deeply",
}


@pytest.mark.slow
@pytest.mark.parametrize("written", TRAPS)
def test_what_yaml_would_read_as_something_else_is_refused_with_its_line(tmp_path: Path, written: str) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(f"tags: [a]  # a comment\nrules:\n  - name: r #1\n    tag: a\n    {written}\n".replace(" #1", ""))
    with pytest.raises(SpecError) as error:
        RuleSet.from_yaml(path)
    assert TRAPS[written] in error.value.what
    if "deep" not in TRAPS[written]:
        assert f"{path}:{5 + written.count('- x')}" in error.value.where
    if '"' in written:
        assert "single quotes" in error.value.fix


def test_comments_and_escapes_that_mean_what_they_say_are_read(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text('tags: [a]  # a\nrules:\n  - {name: r, tag: a, any: [x, "№ #5", \'#6\', "t\\tu"]}  #end\n')
    assert RuleSet.from_yaml(path).rules[0].any == ("x", "№ #5", "#6", "t\tu")


def test_merge_keys_are_read_and_doubled_keys_are_not(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text("tags: [a]\nrules:\n  - &b {name: r, tag: a, any: [x]}\n  - {<<: *b, name: q}\n")
    assert [(rule.name, rule.any) for rule in RuleSet.from_yaml(path).rules] == [("r", ("x",)), ("q", ("x",))]
    path.write_text("tags: [a]\nrules:\n  - &b {name: r, tag: a, any: [x]}\n  - {<<: *b, name: q, name: p}\n")
    with pytest.raises(SpecError, match="duplicate key 'name'"):
        RuleSet.from_yaml(path)


def test_one_wrong_item_is_one_problem(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text("tags: [no]\nrules: [{name: r, tag: a, any: [x]}]\n")
    with pytest.raises(SpecError) as error:
        RuleSet.from_yaml(path)
    assert error.value.fix == ""


def test_a_rule_is_of_the_kind_whose_condition_it_has_however_it_is_made():
    fields = {"name": "lost", "tag": "card", "any": ["lost"], "regex": None}
    made = Rule(**fields), Rule.read(fields), RuleSet(tags=("card",), rules=(fields,)).rules[0]
    assert {type(rule) for rule in made} == {KeywordRule}
    assert len(set(made)) == 1
    copies = copy.deepcopy(made[0]), pickle.loads(pickle.dumps(made[0])), Rule.read(made[0].model_dump())
    assert all(each == made[0] for each in copies)


def test_a_rule_set_keeps_the_whole_of_its_rules_as_data():
    given = {"tags": ["card"], "rules": [{"name": name, "tag": "card", **ONE_OF_EACH[name]} for name in ONE_OF_EACH]}
    rules = RuleSet.read(given)
    assert [rule.kind for rule in rules.rules] == list(KINDS)
    assert RuleSet.read(json.loads(rules.model_dump_json())) == rules


def test_a_misspelt_kind_is_named():
    with pytest.raises(SpecError, match=r"unknown key 'regx' at rules\.0\.regx \(did you mean 'regex'\?\)"):
        RuleSet.read({"tags": ["card"], "rules": [{"name": "a", "tag": "card", "regx": "x"}]})


def test_a_rule_without_a_kind_is_refused_in_the_same_words_by_itself_and_in_a_set():
    words = f"rule 'a' needs exactly one of {', '.join(KINDS)}; it has none"
    for make in (
        lambda: Rule.read({"name": "a", "tag": "card"}),
        lambda: RuleSet.read({"tags": ["card"], "rules": [{"name": "a", "tag": "card"}]}),
    ):
        with pytest.raises(SpecError, match=words):
            make()


def test_a_rule_that_is_no_mapping_is_refused_in_words():
    with pytest.raises(SpecError, match=r"rules\.0: expected a mapping of names to values, found 'card'"):
        RuleSet.read({"tags": ["card"], "rules": ["card"]})
