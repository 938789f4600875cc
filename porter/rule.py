"""The vocabulary of the engine: what a rule is and what it says about a site.

A rule is one function with data: its code and name, its docstring (the page that `porter rule`
prints), its examples (the tests) and what wakes it (names, attributes, strings). It never touches
the tree or the disk: it yields findings, each with or without edits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from porter.levels import QUIET as QUIET
from porter.levels import Category as Category
from porter.levels import Safety as Safety
from porter.levels import Status as Status
from porter.targets import NAMES

if TYPE_CHECKING:
    from porter.site import Site
    from porter.targets import Target


#: Effort points: 0 information, 1 swap, 3 documented solution, 5 redesign, 7 new architecture,
#: 13 rewrite or unknown (the scale of Red Hat's Migration Toolkit for Applications).
EFFORTS = (0, 1, 3, 5, 7, 13)


@dataclass(frozen=True)
class Shared:
    """An expression that several edits of one file may share through one assignment.

    Args:
        name: the variable to introduce when the expression is used more than once.
        expression: the expression itself, valid wherever the edit stands.
        level: where the assignment goes, "module" or "function".
        inline: whether a single use may be written in place.
        tail: what follows the value at the place of use, such as ".type".
        inline_text: what to write in place instead of `expression + tail`, where shorter.
    """

    name: str
    expression: str
    level: str = "function"
    inline: bool = True
    tail: str = ""
    inline_text: str = ""


@dataclass(frozen=True)
class Edit:
    """Replace `text[start:end]` (character offsets) by `parts`, joined."""

    start: int
    end: int
    parts: tuple[str | Shared, ...]

    @classmethod
    def of(cls, start: int, end: int, *parts: str | Shared) -> Edit:
        """Build an edit from strings and shared expressions."""
        return cls(start, end, parts)

    @property
    def text(self) -> str:
        """The replacement with every shared expression written in place."""
        return "".join(p if isinstance(p, str) else inline_text(p) for p in self.parts)


def inline_text(shared: Shared) -> str:
    """Return the text of a shared expression where it is written in place."""
    if shared.inline_text:
        return shared.inline_text
    expression = shared.expression
    if (shared.tail and not expression.endswith(")")) or (shared.tail and " " in expression):
        expression = f"({expression})"
    return expression + shared.tail


@dataclass(frozen=True)
class Finding:
    """One rule at one site, with or without a rewrite.

    Args:
        start: first character offset of the site.
        end: offset behind its last character.
        edits: the rewrite; empty for a gap or an information.
        reason: why it is left, or why a rewrite needs review; what to do about it.
        safety: how far the edits may be trusted; MANUAL without edits.
        category: None takes the rule's own.
        effort: points if it stays; None takes the rule's own.
        imports: modules that the new text needs by their own name.
        moves: imported names that come from another module now: (offset of the alias, module).
        native_only: the site works on the original device alone and has no rewrite.
        guards: the span that runs only if this site's condition holds.
        shields: the rest of the condition that is evaluated only if this part of it holds.
        symbol: the resolved name behind the site, for reports; may be empty.
        holds: the span that must stay as it is as long as the site does: the arguments of a call.
        together: findings with the same number are rewritten all or none: an import that moves,
            and the calls that are written for its new place.
    """

    start: int
    end: int
    edits: tuple[Edit, ...] = ()
    reason: str = ""
    safety: Safety = Safety.SAFE
    category: Category | None = None
    effort: int | None = None
    imports: tuple[str, ...] = ()
    moves: tuple[tuple[int, str], ...] = ()
    native_only: bool = False
    guards: tuple[int, int] | None = None
    shields: tuple[int, int] | None = None
    symbol: str = ""
    rule: str = ""
    holds: tuple[int, int] | None = None
    together: int | None = None

    @property
    def rewrites(self) -> bool:
        """Whether it offers a rewrite."""
        return bool(self.edits or self.moves)


@dataclass(frozen=True)
class Example:
    """A test and a piece of documentation in one.

    Args:
        before: a whole small file.
        accelerator: what the accelerator target makes of it; None leaves it unchanged.
        npu: the same for the npu target.
        unsafe: apply unsafe rewrites too.
        finding: whether a finding must remain when the file is unchanged.
        min_torch: the lowest torch version to support, such as "2.6".
        note: one line for the docs.
        path: the file's relative path, for a rule with `files`.
    """

    before: str
    accelerator: str | None = None
    npu: str | None = None
    unsafe: bool = False
    finding: bool | None = None
    min_torch: str | None = None
    note: str = ""
    path: str = ""

    @property
    def changes(self) -> bool:
        """Whether at least one target rewrites the text."""
        return self.accelerator is not None or self.npu is not None


def change(
    before: str,
    accelerator: str | None = None,
    npu: str | None = None,
    *,
    unsafe: bool = False,
    min_torch: str | None = None,
    note: str = "",
    path: str = "",
) -> Example:
    """An example that at least one target rewrites (None: that target leaves it alone)."""
    return Example(before, accelerator, npu, unsafe, None, min_torch, note, path)


def keep(
    before: str,
    *,
    finding: bool | None = None,
    unsafe: bool = False,
    min_torch: str | None = None,
    note: str = "",
    path: str = "",
) -> Example:
    """An example that must not change; `finding` says whether the rule must (not) report it."""
    return Example(before, None, None, unsafe, finding, min_torch, note, path)


Check = Callable[["Site", "Target"], Iterator[Finding]]


@dataclass(frozen=True)
class Rule:
    """A rule: code, page, examples, and the function that looks at a site.

    Args:
        code: such as "POR101"; unique in the catalog.
        name: the pattern found, in kebab case ("allow ${name}" must read well).
        check: the function; yields findings.
        safety: the level of its rewrites.
        category: what happens on the target if a site stays.
        effort: points for a site that stays.
        names: qualified names that wake it; "torch.cuda.*" wakes it for all below.
        attributes: attribute names on receivers that do not resolve to an import.
        strings: a regular expression; string constants that match (search) wake it.
        keywords: keyword argument names that wake it.
        files: patterns over relative paths; the rule looks at such files instead of at Python.
        examples: changes and no-changes.
        doc: the page, from the docstring.
        targets: the targets it applies to.
    """

    code: str
    name: str
    check: Check
    safety: Safety = Safety.SAFE
    category: Category = Category.MANDATORY
    effort: int = 1
    names: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    strings: str = ""
    keywords: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    examples: tuple[Example, ...] = ()
    doc: str = ""
    targets: tuple[str, ...] = NAMES
    origin: str = field(default="porter", compare=False)

    @property
    def summary(self) -> str:
        """The first line of the page."""
        return self.doc.strip().splitlines()[0] if self.doc.strip() else ""


def rule(
    code: str,
    name: str,
    *,
    names: Sequence[str] = (),
    attributes: Sequence[str] = (),
    strings: str = "",
    keywords: Sequence[str] = (),
    safety: Safety = Safety.SAFE,
    category: Category = Category.MANDATORY,
    effort: int = 1,
    examples: Sequence[Example] = (),
    targets: Sequence[str] = NAMES,
) -> Callable[[Check], Rule]:
    """Turn a function into a `Rule`; its docstring becomes the rule's page."""

    def decorate(check: Check) -> Rule:
        import inspect

        return Rule(
            code=code,
            name=name,
            check=check,
            safety=safety,
            category=category,
            effort=effort,
            names=tuple(names),
            attributes=tuple(attributes),
            strings=strings,
            keywords=tuple(keywords),
            examples=tuple(examples),
            doc=inspect.cleandoc(check.__doc__ or ""),
            targets=tuple(targets),
        )

    return decorate
