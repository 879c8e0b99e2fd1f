"""`RuleSet`: labeling rules as people write them, in one YAML file."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, Union, cast

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    StringConstraints,
    TypeAdapter,
    model_validator,
)
from pydantic import Tag as UnionPart

from kommuna.errors import RulesError, nearest
from kommuna.spec.base import Spec


def _tag(name: str) -> str:
    if not name.strip() or name != name.strip():
        raise ValueError(f"the tag {name!r} is blank, or has white space at an end")
    if name.startswith("!"):
        raise ValueError(f"the tag '{name}' begins with !, which marks votes against a tag")
    return name


Tag = Annotated[str, AfterValidator(_tag)]
RuleName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][\w.\-]*$")]
GroupName = Annotated[str, StringConstraints(min_length=1)]
Language = Literal[
    "arabic", "armenian", "basque", "catalan", "danish", "dutch", "english", "finnish", "french", "german", "greek",
    "hindi", "hungarian", "indonesian", "irish", "italian", "lithuanian", "nepali", "norwegian", "portuguese",
    "romanian", "russian", "serbian", "spanish", "swedish", "tamil", "turkish", "yiddish",
]  # fmt: skip
# What a kind of rule reads: the text, in one pass for all such rules; the row's columns, by an expression; or an LLM's
# answers, which were requested before.
Reads = Literal["text", "columns", "answers"]


class Rule(Spec):
    """One labeling function: a name, a tag, and a condition of its kind, which is a subclass.

    `Rule(name=…, tag=…, regex=…)` makes the subclass whose condition is given.
    """

    kind: ClassVar[str]  # the field that holds the condition
    reads: ClassVar[Reads]
    names_a_tag: ClassVar[bool] = True  # False: the rule may return the tag that it votes for

    name: RuleName
    tag: str | None = Field(None, description="The tag that the rule votes for; a python rule may vote for several.")
    group: GroupName | None = Field(None, description="Rules of one group are reported and switched off together.")
    against: bool = Field(False, description="True votes that the row does NOT have the tag.")

    def __new__(cls, *_: Any, **fields: Any) -> Rule:
        """An instance of the kind whose condition is among the fields."""
        return super().__new__(type(_ANY_RULE.validate_python(fields)) if cls is Rule else cls)

    @classmethod
    def model_validate(cls, obj: Any, **options: Any) -> Self:
        """Validates a rule; `Rule.model_validate` chooses the kind by the condition that is given."""
        if cls is Rule:
            return cast(Self, _ANY_RULE.validate_python(obj, **options))
        return super().model_validate(obj, **options)

    @property
    def condition(self) -> str:
        """The condition as it was written."""
        return str(getattr(self, self.kind))

    @property
    def where(self) -> str:
        """The kind and the condition, to name the rule's place in an error."""
        return f"{self.kind}: {self.condition}"

    @property
    def in_words(self) -> str:
        """What the rule looks for, as reports show it."""
        return self.where

    @property
    def functions(self) -> tuple[str, ...]:
        """`module:function` of each of the team's functions that the rule calls."""
        return ()

    @property
    def may_vote_against(self) -> bool:
        """Whether the rule can vote that a row does NOT have its tag."""
        return self.against

    @model_validator(mode="before")
    @classmethod
    def _is_of_one_kind(cls, data: Any) -> Any:
        return _one_kind(data)

    @model_validator(mode="after")
    def _has_a_tag(self) -> Self:
        if self.tag is None and self.names_a_tag:
            raise ValueError(f"rule '{self.name}' names no tag")
        if self.tag is None and self.against:
            raise ValueError(f"rule '{self.name}' is against, but names no tag")
        return self


class KeywordRule(Rule):
    """Fires where the text contains a keyword or phrase as whole words."""

    kind: ClassVar[str] = "any"
    reads: ClassVar[Reads] = "text"

    any: tuple[Annotated[str, StringConstraints(min_length=1)], ...] = Field(
        min_length=1, description="Keywords or phrases: the rule fires where any of them stands as whole words."
    )
    stem: Language | None = Field(
        None, description="With `any`: words are compared by their stem in this language, so in any word form."
    )

    @property
    def condition(self) -> str:
        """The keywords, separated by commas."""
        return ", ".join(self.any)

    @property
    def in_words(self) -> str:
        """The keywords, and whether any form of their words counts."""
        return f"any word form ({self.stem}) of: {self.condition}" if self.stem else f"any of: {self.condition}"

    @model_validator(mode="after")
    def _no_blank_keyword(self) -> Self:
        for keyword in self.any:
            if not keyword.strip():
                raise ValueError(f"rule '{self.name}' has the blank keyword {keyword!r}")
        return self


class RegexRule(Rule):
    """Fires where a regular expression matches somewhere in the text."""

    kind: ClassVar[str] = "regex"
    reads: ClassVar[Reads] = "text"

    regex: str = Field(description="A regular expression, searched without regard to case.")

    @model_validator(mode="after")
    def _compiles(self) -> Self:
        if not self.regex:
            raise ValueError(f"rule '{self.name}' has an empty regex, which fires on every text")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)
                re.compile(self.regex)
        except re.error as error:
            raise ValueError(f"rule '{self.name}' has a bad regex: {error}") from None
        return self


class SqlRule(Rule):
    """Fires where a SQL condition over the row's columns is true."""

    kind: ClassVar[str] = "sql"
    reads: ClassVar[Reads] = "columns"

    sql: str = Field(description="A SQL condition over the row's columns.")


class PythonRule(Rule):
    """Fires, or names a tag, by the Polars expression that a function returns."""

    kind: ClassVar[str] = "python"
    reads: ClassVar[Reads] = "columns"
    names_a_tag: ClassVar[bool] = False

    python: str = Field(
        pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$",
        description="`module:function` that returns a Polars expression: boolean, or a tag by name.",
    )

    @property
    def functions(self) -> tuple[str, ...]:
        """The function that returns the expression."""
        return (self.python,)


class AskRule(Rule):
    """Votes by an LLM's answer to a question about the text."""

    kind: ClassVar[str] = "ask"
    reads: ClassVar[Reads] = "answers"

    ask: str = Field(description="A question to an LLM, answered yes, no or don't know.")
    no_is_against: bool = Field(
        False, description="True where the answer no to an ask rule votes that the row does NOT have the tag."
    )

    @property
    def may_vote_against(self) -> bool:
        """Whether yes or no votes that a row does NOT have the tag."""
        return self.against or self.no_is_against

    @model_validator(mode="after")
    def _against_once(self) -> Self:
        if self.no_is_against and self.against:
            raise ValueError(f"rule '{self.name}': no_is_against is for ask rules that vote for their tag")
        return self


KINDS: dict[str, type[Rule]] = {kind.kind: kind for kind in Rule.__subclasses__()}  # in the order of this file


def _one_kind(data: Any) -> Any:
    """Checks that the fields belong to one kind of rule, and drops empty fields of other kinds."""
    if not isinstance(data, Mapping):
        return data
    name = f"rule '{data['name']}'" if "name" in data else "a rule"
    given = [kind for kind in KINDS if data.get(kind) is not None]
    known = {field: kind for kind, model in KINDS.items() for field in model.model_fields}
    if len(given) != 1:
        if not given and any(field not in known for field in data):
            return data  # a misspelt kind is refused as an unknown key, where it stands
        raise ValueError(f"{name} needs exactly one of {', '.join(KINDS)}; it has {', '.join(given) or 'none'}")
    own = KINDS[given[0]].model_fields
    for field, value in data.items():
        if field in known and field not in own and value:
            raise ValueError(f"{name} has `{field}`, which goes with `{known[field]}`, not with `{given[0]}`")
    return {field: value for field, value in data.items() if field in own or field not in known}


def _kind_of(data: Any) -> str:
    """Returns the union's member, in angle brackets: they keep it out of the location of a mistake."""
    if isinstance(data, Rule):
        return f"<{data.kind}>"
    fields = data if isinstance(data, Mapping) else {}
    return next((f"<{kind}>" for kind in KINDS if fields.get(kind) is not None), "<any>")


if TYPE_CHECKING:
    AnyRule = Rule
else:
    AnyRule = Annotated[
        Union[tuple(Annotated[model, UnionPart(f"<{kind}>")] for kind, model in KINDS.items())],  # noqa: UP007
        Discriminator(_kind_of),
        BeforeValidator(_one_kind),
    ]
_ANY_RULE: TypeAdapter[Rule] = TypeAdapter(AnyRule)


class RuleSet(Spec):
    """Tags, and the rules that vote for them.

    Rules of a group that is `off` are checked, but then removed from `rules`.
    """

    refuse_yaml_traps: ClassVar[bool] = True

    tags: tuple[Tag, ...] = Field(min_length=1, description="Every tag; their order breaks ties.")
    multi_label: bool = Field(False, description="True where a row may have several tags, or none.")
    otherwise: Tag | None = Field(
        None, description="The default tag: that of a row on which no rule votes. Null: such a row stays unknown."
    )
    off: tuple[GroupName, ...] = Field((), description="Groups whose rules are not applied.")
    rules: tuple[AnyRule, ...] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _has_its_present_names(cls, data: Any) -> Any:
        """Accepts the former name of `multi_label`, too."""
        if isinstance(data, dict) and "several_tags" in data and "multi_label" not in data:
            return {("multi_label" if name == "several_tags" else name): value for name, value in data.items()}
        return data

    @property
    def python_functions(self) -> tuple[str, ...]:
        """`module:function` of every Python rule."""
        return tuple(function for rule in self.rules for function in rule.functions)

    @model_validator(mode="after")
    def _names_and_tags(self) -> RuleSet:
        for what, names in (("tag", self.tags), ("rule name", tuple(rule.name for rule in self.rules))):
            duplicates = [name for name, count in Counter(names).items() if count > 1]
            if duplicates:
                raise ValueError(f"duplicate {what} '{duplicates[0]}'")
        known = set(self.tags)
        for rule in self.rules:
            if rule.tag is not None and rule.tag not in known:
                raise ValueError(f"rule '{rule.name}' has the unknown tag '{rule.tag}'{nearest(rule.tag, self.tags)}")
            if rule.tag is None and self.multi_label:
                raise ValueError(
                    f"rule '{rule.name}' names no tag: where rows have several tags, each rule votes for one"
                )
        if self.otherwise is not None and self.otherwise not in known:
            raise ValueError(
                f"the default tag `otherwise` is the unknown tag '{self.otherwise}'{nearest(self.otherwise, self.tags)}"
            )
        if self.multi_label and any("|" in tag for tag in self.tags):
            raise ValueError("a tag with '|' would be read as two tags, because rows may have several: rename it")
        groups = self.groups
        for group in self.off:
            if group not in groups:
                raise ValueError(f"no rule belongs to the group '{group}', which is off{nearest(group, groups)}")
        return self

    @model_validator(mode="after")
    def _switch_off(self) -> RuleSet:
        """Removes the rules of groups that are off. Runs after the checks."""
        kept = tuple(rule for rule in self.rules if rule.group not in self.off)
        if not kept:
            raise ValueError("every group is off: no rule is left")
        object.__setattr__(self, "rules", kept)  # the model is frozen
        object.__setattr__(self, "off", ())
        return self

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups, in the rules' order."""
        return tuple(dict.fromkeys(rule.group for rule in self.rules if rule.group))

    def only(self, group: str) -> RuleSet:
        """Returns the rules of one group as a rule set, without a default tag: other groups vote on the remaining rows.

        Raises:
            RulesError: no rule belongs to the group.
        """
        kept = tuple(rule for rule in self.rules if rule.group == group)
        if not kept:
            raise RulesError(
                f"no rule belongs to the group '{group}'{nearest(group, self.groups)}",
                fix=f"the groups are: {', '.join(self.groups) or 'none'}",
            )
        return self.model_copy(update={"rules": kept, "otherwise": None})

    @property
    def default(self) -> int | None:
        """The index of the default tag among the tags."""
        return None if self.otherwise is None else self.tags.index(self.otherwise)

    @property
    def categories(self) -> tuple[str, ...]:
        """The possible votes where a row has one tag: each tag, then `!tag` for each tag with a vote against."""
        against = {rule.tag for rule in self.rules if rule.may_vote_against}
        return self.tags + tuple(f"!{tag}" for tag in self.tags if tag in against)

    def vote_of(self, rule: Rule) -> str | int | None:
        """Returns a rule's vote: a category; 1 or 0 where rows have several tags; None if the rule returns a tag."""
        if self.multi_label:
            return 0 if rule.against else 1
        return f"!{rule.tag}" if rule.against else rule.tag
