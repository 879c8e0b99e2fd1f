"""YAML files: they are read as a person would read them, or refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml
from hypothesis import assume
from hypothesis import strategies as st
from tests.fuzz.campaign import attempt, fuzzed, rarely
from tests.fuzz.typed_texts import DAYS, NUMBERS, TEXTS

from kommuna.spec.installation import Installation
from kommuna.spec.resources import cpu_cores, memory_bytes
from kommuna.spec.rules import RuleSet
from kommuna.spec.step import StepSpec
from kommuna.spec.team import Platform

# What YAML 1.1 has its own mind about.
SCALARS = st.one_of(
    st.sampled_from(
        ["no", "yes", "on", "Off", "y", "n", "true", "null", "~", "", "1", "0x1F", "010", "0o7", "1_000", "12:30", "1e3",
         ".inf", "-.INF", ".nan", "1.", "2026-01-01", "2026-01-01 12:00", "=", "<<", "!!str 5", "!!int 'x'", "!own x",
         "!!python/object:os.system x", "!!binary aGk=", "!!set {a}", "!!omap [a: 1]", "&a x", "*a", "*b", "&a [*a]",
         "|", ">-", "? x", "- x", "a: b", "{a: b}", "[a, b]", "[a", "x #5", "x # note", "#5", "x\t#5", "'x'", "'it''s'",
         '"\\bкарта"', '"\\n"', '"\\x41"', '"\\ud83d"', "@x", "`x`", "%x", "x: ", "a,b", "\\bкарта\\b", "x\\", "a\tb",
         "договор #5", "№5", "\ufeffx", "x\x85y", "a\u2028b", "\u00a0x", "1" + "0" * 400, "9" * 5000, "-1", "8Gi", "500m",
         "0.5", "1e400Gi", "٣", "²", "support", "fraud", "fraud__x", "x y", "A", "a__b", "__", "s3://bucket/x", "../up",
         "/", ".", "0", "-0", "1.5", "12345678901234567890"]
    ),
    NUMBERS, DAYS, TEXTS,
)  # fmt: skip
USUAL_TEXTS = st.sampled_from(["карта", "перевод не пришёл", "a-b", "card", "x|y", "(не|нет) пришл", "50%", "c++", "ё"])
SOME = st.one_of(USUAL_TEXTS, USUAL_TEXTS, SCALARS)
WORDS = st.text("абя ab.*#:-'\"\\!|{}[],&%@`?1\n\t\x07\xa0\u2028😀", max_size=8)
_SAID_OTHERWISE = ('"', "'", "!", "&", "*", "|", ">", "%", "@", "`", "{", "[", "#", "?", "-", "<<", "=")


@st.composite
def rule_sets(draw: st.DrawFn) -> Any:
    tags = draw(st.lists(st.one_of(USUAL_TEXTS, WORDS, SOME), min_size=1, max_size=3, unique=True))
    rules = []
    for i in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(["any", "regex", "sql", "ask"]))
        text = st.one_of(USUAL_TEXTS, WORDS, SOME)
        condition = draw(st.lists(text, min_size=1, max_size=3) if kind == "any" else text)
        rules.append({"name": f"r{i}", "tag": draw(st.sampled_from(tags)), kind: condition})
    return {"tags": tags, "rules": rules}


@fuzzed(
    examples=100, data=rule_sets(), style=st.sampled_from([None, "'", '"', "|"]), flow=st.booleans(), wide=st.booleans()
)
def test_written_yaml_is_read_back(folder: Path, data: Any, style: Any, flow: bool, wide: bool) -> None:
    path = folder / "rules.yaml"
    if wide:
        written = json.dumps(data, ensure_ascii=flow)
    else:
        written = yaml.safe_dump(data, default_style=style, default_flow_style=flow, allow_unicode=flow, width=20)
    path.write_bytes(written.encode("utf-8", "replace"))
    meant, refused = attempt(lambda: RuleSet.read(data))
    read, error = attempt(lambda: RuleSet.from_yaml(path))
    if read is not None:
        assert read == meant
    elif refused is None:  # by an escape, which a regular expression could have meant
        assert re.search(r"\\[abefv0NLP_]|unknown escape|holds the character", f"{written}{error}"), error


@fuzzed(examples=150, items=st.lists(SOME, min_size=1, max_size=4), at=st.integers(0, 9), extra=SCALARS)
def test_a_plain_text_is_read_literally(folder: Path, items: list[str], at: int, extra: str) -> None:
    path = folder / "rules.yaml"
    items = [" ".join(item.split()) if rarely_odd(item) else item for item in items]
    lines = ["tags: [a]", "rules:", "  - name: r", "    tag: a", "    any:", *(f"      - {item}" for item in items)]
    if at < 6 and extra:
        lines.insert(at, "  " * (at > 1) * 2 + f"regex: {extra}" if at % 2 else f"# {extra}")
    path.write_bytes("\n".join(lines).encode("utf-8", "replace"))
    read, error = attempt(lambda: RuleSet.from_yaml(path))
    if error is not None:
        line = error.where.rpartition(":")[2]
        assert not line.isdigit() or 1 <= int(line) <= len("\n".join(lines).splitlines()) + 1, error.where
        return
    if any(item.lstrip().startswith(_SAID_OTHERWISE) or "\n" in item or "\r" in item for item in items):
        return
    assume(at >= 6)
    assert read.rules[0].any == tuple(re.split(r"[ \t]# ", item)[0].strip(" \t") for item in items)


def rarely_odd(item: str) -> bool:
    """Whether a text is unusual only by its white space."""
    return not set(item) - set("abяx \n\r\t")


@fuzzed(
    examples=150,
    lines=st.lists(
        st.tuples(
            st.sampled_from(["tags", "rules", "off", "otherwise", "multi_label", "<<", "tags", "x", "# x"]), SOME
        ),
        max_size=3,
    ),
    data=st.data(),
)
def test_any_lines_are_read_as_standard_yaml_or_refused(
    folder: Path, lines: list[tuple[str, str]], data: st.DataObject
) -> None:
    path = folder / "rules.yaml"
    rule = "{name: r, tag: a, any: [x]}"
    text = "tags: [a, b]\nrules: [" + rule + "]\n" + "".join(f"{key}: {value}\n" for key, value in lines)
    for _ in range(data.draw(st.sampled_from([0, 0, 1, 2]))):
        at = data.draw(st.integers(0, len(text)))
        text = text[:at] + data.draw(SCALARS) + text[at:]
    content = text.encode(data.draw(st.sampled_from(["utf-8"] * 30 + ["utf-8-sig", "cp1251", "utf-16"])), "replace")
    if rarely(data.draw, 8):
        content = content[: data.draw(st.integers(0, len(content)))]
    path.write_bytes(content)
    read, error = attempt(lambda: RuleSet.from_yaml(path))
    if error is None:
        assert not _doubled(yaml.compose(content.decode(), Loader=yaml.SafeLoader))
        assert read == RuleSet.model_validate(yaml.safe_load(content.decode()))


def _doubled(node: Any) -> bool:
    """Whether a mapping has a duplicate key."""
    if isinstance(node, yaml.MappingNode):
        keys = [(key.tag, key.value) for key, _ in node.value if isinstance(key.value, str) and key.value != "<<"]
        return len(set(keys)) < len(keys) or any(_doubled(part) for pair in node.value for part in pair)
    return isinstance(node, yaml.SequenceNode) and any(map(_doubled, node.value))


KOMMUNA = """\
store: {store}
state: {state}
ports: {{airflow: {port}, mlflow: 5000}}
teams:
  {team}:
    bundle: {bundle}
    owner: {owner}
    tags: [{tag}]
    retries: {retries}
    parallelism: {parallelism}
    pools: {{default: {slots}, {pool}: 2}}
    people: {{{login}: {role}}}
    quota: {{cpu: {cpu}, memory: {memory}, pods: {pods}}}
  other: {{bundle: b}}
{key}: {value}
"""
USUAL = {
    "store": "''", "state": ".kommuna", "port": "8080", "team": "support", "bundle": "a", "owner": "Ann", "tag": "x",
    "retries": "1", "parallelism": "4", "slots": "8", "pool": "slow", "login": "ann", "role": "op", "cpu": "'8'",
    "memory": "16Gi", "pods": "20", "key": "mlflow", "value": "''",
}  # fmt: skip
TEXT_FIELDS = ("owner", "bundle", "memory", "cpu")


@fuzzed(examples=200, changed=st.dictionaries(st.sampled_from(sorted(USUAL)), SCALARS, min_size=1, max_size=2))
def test_a_platform_description_is_usable_or_refused(folder: Path, changed: dict[str, str]) -> None:
    path = folder / "kommuna.yaml"
    path.write_bytes(KOMMUNA.format(**{**USUAL, **changed}).encode("utf-8", "replace"))
    platform, error = attempt(lambda: Platform.from_yaml(path))
    if error is not None:
        return
    assert Platform.model_validate(platform.model_dump()) == platform
    assert Platform.model_validate_json(platform.model_dump_json()) == platform
    installation = Installation(platform, folder)
    assert all(slots > 0 for _, slots in platform.pool_slots().values())
    for name, team in platform.teams.items():
        assert memory_bytes(team.quota.memory) > 0
        assert cpu_cores(team.quota.cpu) > 0
        assert installation.bundle(name)
        assert installation.services(name)
        assert installation.store().url
    for name in set(TEXT_FIELDS) & set(changed):
        item = changed[name]
        if (
            len(changed) == 1
            and not item.lstrip().startswith(_SAID_OTHERWISE)
            and not set(item) & set("\n\r#,}{")
            and item.strip()
        ):
            team = platform.teams["support"]
            assert getattr(team, name, None) or getattr(team.quota, name) == item.strip(" \t")


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), SCALARS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4) | st.sampled_from(["url", "manifest", "model"]), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip
SPEC = {
    "function": "m:f", "team": "support", "store": {"url": "file:///x"}, "inputs": {}, "params": {}, "resources": {},
    "services": {}, "bundle": "", "dag_id": "", "cache": True,
}  # fmt: skip


@fuzzed(examples=150, changed=st.dictionaries(st.sampled_from([*SPEC, "params", "params", "more"]), JSON, max_size=2))
def test_a_step_spec_survives_a_round_trip_or_is_refused(folder: Path, changed: dict[str, Any]) -> None:
    data = {**SPEC, **changed}
    for name in ("inputs", "params"):
        data[name] = {"a": data[name]} if data[name] else {}
    spec, error = attempt(lambda: StepSpec.read(data))
    if error is not None:
        return
    path = folder / "spec.json"
    path.write_text(spec.model_dump_json(), encoding="utf-8")
    again, error = attempt(lambda: StepSpec.from_yaml(path))
    assert error is None, error
    assert again.model_dump_json() == spec.model_dump_json()
    assert json.loads(spec.model_dump_json())["params"] == json.loads(json.dumps(spec.params, allow_nan=False))
