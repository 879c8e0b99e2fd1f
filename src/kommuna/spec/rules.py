"""`RuleSet`: labeling rules as people write them, in one YAML file."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, StringConstraints, model_validator

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
RuleKind = Literal["any", "regex", "sql", "python", "ask"]

KINDS: tuple[RuleKind, ...] = ("any", "regex", "sql", "python", "ask")


class Rule(Spec):
    """One labeling function: a name, a tag and exactly one of the five kinds of condition."""

    name: RuleName
    tag: str | None = Field(None, description="The tag that the rule votes for; a python rule may vote for several.")
    any: tuple[Annotated[str, StringConstraints(min_length=1)], ...] | None = Field(
        None, min_length=1, description="Keywords or phrases: the rule fires where any of them stands as whole words."
    )
    regex: str | None = Field(None, description="A regular expression, searched without regard to case.")
    sql: str | None = Field(None, description="A SQL condition over the row's columns.")
    python: str | None = Field(
        None,
        pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$",
        description="`module:function` that returns a Polars expression: boolean, or a tag by name.",
    )
    ask: str | None = Field(None, description="A question to an LLM, answered yes, no or don't know.")
    stem: Language | None = Field(
        None, description="With `any`: words are compared by their stem in this language, so in any word form."
    )
    group: GroupName | None = Field(None, description="Rules of one group are reported and switched off together.")
    against: bool = Field(False, description="True votes that the row does NOT have the tag.")
    no_is_against: bool = Field(
        False, description="True where the answer no to an ask rule votes that the row does NOT have the tag."
    )

    @property
    def kind(self) -> RuleKind:
        return next(kind for kind in KINDS if getattr(self, kind) is not None)

    @model_validator(mode="after")
    def _one_kind(self) -> Rule:
        given = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ValueError(
                f"rule '{self.name}' needs exactly one of {', '.join(KINDS)}; it has {', '.join(given) or 'none'}"
            )
        if self.tag is None and self.kind != "python":
            raise ValueError(f"rule '{self.name}' names no tag")
        if self.tag is None and self.against:
            raise ValueError(f"rule '{self.name}' is against, but names no tag")
        if self.stem is not None and self.any is None:
            raise ValueError(f"rule '{self.name}' has a stem, but no keywords: stems go with `any`")
        if self.no_is_against and (self.kind != "ask" or self.against):
            raise ValueError(f"rule '{self.name}': no_is_against is for ask rules that vote for their tag")
        for keyword in self.any or ():
            if not keyword.strip():
                raise ValueError(f"rule '{self.name}' has the blank keyword {keyword!r}")
        if self.regex == "":
            raise ValueError(f"rule '{self.name}' has an empty regex, which fires on every text")
        if self.regex is not None:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", FutureWarning)
                    re.compile(self.regex)
            except re.error as error:
                raise ValueError(f"rule '{self.name}' has a bad regex: {error}") from None
        return self


class RuleSet(Spec):
    """Tags, and the rules that vote for them.

    Rules of a group that is `off` are checked, but are not among `rules`: nothing downstream knows of them.
    """

    refuse_yaml_traps: ClassVar[bool] = True

    tags: tuple[Tag, ...] = Field(min_length=1, description="Every tag; their order breaks ties.")
    several_tags: bool = Field(False, description="True where a row may have several tags, or none.")
    otherwise: Tag | None = Field(
        None, description="The default tag: that of a row on which no rule votes. Null: such a row stays unknown."
    )
    off: tuple[GroupName, ...] = Field((), description="Groups whose rules are not applied.")
    rules: tuple[Rule, ...] = Field(min_length=1)

    @property
    def python_functions(self) -> tuple[str, ...]:
        """`module:function` of every Python rule."""
        return tuple(rule.python for rule in self.rules if rule.python)

    @model_validator(mode="after")
    def _names_and_tags(self) -> RuleSet:
        for what, names in (("tag", self.tags), ("rule name", tuple(rule.name for rule in self.rules))):
            twice = [name for name, count in Counter(names).items() if count > 1]
            if twice:
                raise ValueError(f"the {what} '{twice[0]}' stands twice")
        known = set(self.tags)
        for rule in self.rules:
            if rule.tag is not None and rule.tag not in known:
                raise ValueError(f"rule '{rule.name}' has the unknown tag '{rule.tag}'{nearest(rule.tag, self.tags)}")
            if rule.tag is None and self.several_tags:
                raise ValueError(
                    f"rule '{rule.name}' names no tag: where rows have several tags, each rule votes for one"
                )
        if self.otherwise is not None and self.otherwise not in known:
            raise ValueError(
                f"the default tag `otherwise` is the unknown tag '{self.otherwise}'{nearest(self.otherwise, self.tags)}"
            )
        if self.several_tags and any("|" in tag for tag in self.tags):
            raise ValueError("a tag with '|' cannot be told from two tags where rows have several: rename it")
        groups = self.groups
        for group in self.off:
            if group not in groups:
                raise ValueError(f"no rule is of the group '{group}', which is off{nearest(group, groups)}")
        return self

    @model_validator(mode="after")
    def _switch_off(self) -> RuleSet:
        """Runs after the checks; what remains is a rule set in which nothing is off."""
        kept = tuple(rule for rule in self.rules if rule.group not in self.off)
        if not kept:
            raise ValueError("every group is off: no rule is left")
        object.__setattr__(self, "rules", kept)  # the model is frozen to everyone else
        object.__setattr__(self, "off", ())
        return self

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups, in the rules' order."""
        return tuple(dict.fromkeys(rule.group for rule in self.rules if rule.group))

    def only(self, group: str) -> RuleSet:
        """The rule set with the rules of one group, without a default tag: other groups vote on rows that are left.

        Raises:
            RulesError: no rule is of the group.
        """
        kept = tuple(rule for rule in self.rules if rule.group == group)
        if not kept:
            raise RulesError(
                f"no rule is of the group '{group}'{nearest(group, self.groups)}",
                fix=f"the groups are: {', '.join(self.groups) or 'none'}",
            )
        return self.model_copy(update={"rules": kept, "otherwise": None})

    @property
    def default(self) -> int | None:
        """The index of the default tag among the tags."""
        return None if self.otherwise is None else self.tags.index(self.otherwise)

    @property
    def categories(self) -> tuple[str, ...]:
        """What a vote may be where a row has one tag: each tag, then `!tag` for each tag that a rule votes against."""
        against = {rule.tag for rule in self.rules if rule.against or rule.no_is_against}
        return self.tags + tuple(f"!{tag}" for tag in self.tags if tag in against)

    def vote_of(self, rule: Rule) -> str | int | None:
        """What a rule votes when it fires: a category, 1/0 where rows have several tags, None if it says so itself."""
        if self.several_tags:
            return 0 if rule.against else 1
        return f"!{rule.tag}" if rule.against else rule.tag
