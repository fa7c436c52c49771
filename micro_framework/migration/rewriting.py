"""The edits: imports and decorators, to nameko_compat's names or to the native ones. The only room that needs libcst.

Both ways leave every other byte as it is, and change nothing the second time.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

import libcst as cst
from libcst import helpers, matchers, metadata

from micro_framework.migration.arguments import Given, planned
from micro_framework.migration.grading import Finding, declared, decorators, module_findings, staying
from micro_framework.migration.names import COMPAT, FORMS, HOSTS, MOVED, as_nameko, is_absent, is_nameko
from micro_framework.migration.reading import ReadModule
from micro_framework.migration.source import UnreadableError, why_not_parsed
from micro_framework.migration.tree import Tree

__all__ = ["Goal", "Rewritten", "rewritten"]

Goal: TypeAlias = Literal["compat", "native"]

Needed: TypeAlias = Mapping[str, tuple[str, str]]
"""Module and name of what a name stands for."""

Edits: TypeAlias = Mapping[tuple[int, int], str]
"""Nameko's full name of what stands at a line and column: a decorator, or what is called in a class attribute."""


@dataclass
class Rewritten:
    """A file after the edits.

    Args:
        path: Where it is.
        before: Its text.
        after: Its text after the edits.
        notes: Line and text of what the edits could not do, or do differently.
    """

    path: Path
    before: str
    after: str
    notes: list[tuple[int, str]] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        """Whether there is anything to write."""
        return self.before != self.after


def rewritten(tree: Tree, goal: Goal) -> Iterator[Rewritten]:
    """Every file of a tree after the edits; those without anything of Nameko's are left out.

    Raises:
        UnreadableError: libcst does not parse what Python parses.
    """
    stays = staying(tree) if goal == "native" else {}
    for module in tree.modules.values():
        notes = [(finding.line, finding.text) for finding in module_findings(module)]
        if goal == "native":
            notes += host_notes(module)
        edits = dict(edits_of(tree, module, stays, notes)) if goal == "native" else {}
        if edits or module.mentions_nameko:
            moves = goal == "native" and not any(each.full_name in stays for each in module.classes.values())
            yield rewritten_module(module, edits, notes, native=goal == "native", moves=moves)


def host_notes(module: ReadModule) -> Iterator[tuple[int, str]]:
    """What runs or tests services in Nameko's way, and does not know native ones."""
    for full in dict.fromkeys(module.imports.values()):
        if full.startswith(HOSTS):
            instead = "for native ones use Runner or micro_framework.testing"
            yield 1, f"{full} works on services with Nameko's names only; {instead}"


def edits_of(
    tree: Tree, module: ReadModule, stays: Mapping[str, list[Finding]], notes: list[tuple[int, str]]
) -> Iterator[tuple[tuple[int, int], str]]:
    """Where the native forms go in a module."""
    for each in module.classes.values():
        if each.full_name in stays:
            reasons = stays[each.full_name]
            texts = dict.fromkeys(reason.text for reason in reasons)
            own = any(True for method in each.methods for _ in decorators(tree, each, method))
            if own:
                notes.append((each.node.lineno, f"{each.name} stays on {COMPAT}: {'; '.join(texts)}"))
            continue
        nodes = [node for method in each.methods for node, _ in decorators(tree, each, method)]
        nodes += [value for value in each.assigned.values() if getattr(value, "func", None) is not None]
        for node in nodes:
            found = declared(tree, module, node)
            if found is not None and found.native is not None:
                notes += [(node.lineno, f"{each.name}: {note}") for note in found.notes]
                yield (node.lineno, node.col_offset), found.name


def rewritten_module(
    module: ReadModule, edits: Edits, notes: Sequence[tuple[int, str]], *, native: bool, moves: bool
) -> Rewritten:
    """One module after the edits; `moves` says whether names of `MOVED` move too."""
    text = module.source.text
    try:
        wrapper = metadata.MetadataWrapper(cst.parse_module(text))
    except cst.ParserSyntaxError as error:
        raise UnreadableError(f"{module.source.path}: {why_not_parsed(error, text)}") from error
    parsed: cst.Module = wrapper.module
    if native:
        shaping = Shaping(edits, byte_columns(text))
        parsed = wrapper.visit(shaping)
        imports = NativeImports(module, shaping.needed, used_names(parsed), MOVED if moves else {})
        parsed = parsed.visit(imports)
        parsed = placed(parsed, imports)
        parsed = named(parsed, shaping.needed, imports.local)
        wrapper = metadata.MetadataWrapper(parsed)
    return Rewritten(module.source.path, text, wrapper.visit(CompatNames()).code, sorted(set(notes)))


def byte_columns(text: str) -> Sequence[str]:
    """The lines of a text, to turn libcst's columns (characters) into ast's (bytes)."""
    return re.split(r"\r\n|\r|\n", text)


def used_names(module: cst.Module) -> set[str]:
    """Every name that stands anywhere but in an import."""
    names = NameUses()
    module.visit(names)
    return names.found


class NameUses(cst.CSTVisitor):
    """Collects names outside imports; also those in ``__all__``, which hands them on."""

    def __init__(self) -> None:
        self.found: set[str] = set()

    def visit_Import(self, node: cst.Import) -> bool:
        """Not in here."""
        return False

    def visit_ImportFrom(self, node: cst.ImportFrom) -> bool:
        """Not in here."""
        return False

    def visit_Attribute(self, node: cst.Attribute) -> bool:
        """Only what the attribute is of."""
        node.value.visit(self)
        return False

    def visit_Arg(self, node: cst.Arg) -> bool:
        """Only the value, no keyword."""
        node.value.visit(self)
        return False

    def visit_Name(self, node: cst.Name) -> None:
        """Note it."""
        self.found.add(node.value)

    def visit_SimpleString(self, node: cst.SimpleString) -> None:
        """Note what ``__all__`` or an annotation may mean."""
        value = node.evaluated_value
        if isinstance(value, str) and value.isidentifier():
            self.found.add(value)


PLACE = "__micro_framework_imports_here"
"""Stands where the new imports go, until it is known what they are."""

MARK = "__micro_framework_native_"
"""Begins the stand-ins for native names, until it is known what they are called in the file."""


class Shaping(cst.CSTTransformer):
    """Puts native declarations, under stand-in names, where `Edits` says."""

    METADATA_DEPENDENCIES = (metadata.PositionProvider,)

    def __init__(self, edits: Edits, lines: Sequence[str]) -> None:
        super().__init__()
        self.edits = edits
        self.lines = lines
        self.needed: dict[str, tuple[str, str]] = {}

    def edit_at(self, node: cst.CSTNode) -> str | None:
        """Nameko's name of what stands here."""
        start = self.get_metadata(metadata.PositionProvider, node).start
        line = self.lines[start.line - 1] if start.line <= len(self.lines) else ""
        return self.edits.get((start.line, len(line[: start.column].encode())))

    def leave_Decorator(self, original_node: cst.Decorator, updated_node: cst.Decorator) -> cst.Decorator:
        """A bare decorator becomes a call."""
        name = self.edit_at(original_node.decorator)
        if name is None or isinstance(original_node.decorator, cst.Call):
            return updated_node
        return updated_node.with_changes(decorator=cst.Call(self.stand_in(name)))

    def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> cst.Call:
        """A declaration with its arguments."""
        name = self.edit_at(original_node)
        if name is None:
            return updated_node
        given = [
            Given(each.keyword.value if each.keyword else None, each.star, is_none(each)) for each in updated_node.args
        ]
        plan = planned(FORMS[name], given)
        args = [renamed(updated_node.args[place], keyword) for place, keyword in plan.kept]
        if args and len(args) < len(updated_node.args) and args[-1] is not updated_node.args[-1]:
            args[-1] = args[-1].with_changes(comma=updated_node.args[-1].comma)
        return updated_node.with_changes(func=self.stand_in(name), args=args)

    def stand_in(self, name: str) -> cst.Name:
        """The stand-in for a native class."""
        form = FORMS[name]
        mark = f"{MARK}{form.name}"
        self.needed[mark] = (form.module, form.name)
        return cst.Name(mark)


def is_none(argument: cst.Arg) -> bool:
    return isinstance(argument.value, cst.Name) and argument.value.value == "None"


def renamed(argument: cst.Arg, keyword: str | None) -> cst.Arg:
    """An argument under another keyword."""
    if keyword is None or (argument.keyword is not None and argument.keyword.value == keyword):
        return argument
    tight = cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace(""))
    if argument.keyword is not None:
        return argument.with_changes(keyword=cst.Name(keyword))
    return argument.with_changes(keyword=cst.Name(keyword), equal=tight)


class NativeImports(cst.CSTTransformer):
    """Takes out imports that nothing uses or that come from elsewhere, and decides what native names are called.

    Args:
        module: The module before the edits.
        needed: Stand-ins, and module and name of what each stands for.
        used: The names in use after the declarations were edited.
        moved: As `MOVED`.
    """

    def __init__(self, module: ReadModule, needed: Needed, used: set[str], moved: Needed) -> None:
        super().__init__()
        self.module = module
        self.moved = moved
        self.used = used
        self.wanted: dict[str, set[tuple[str, str]]] = {}
        self.local: dict[str, str] = {}
        self.depth = 0
        self.is_placed = False
        self.comments: list[str] = []
        before = used_names(cst.parse_module(module.source.text))
        self.gone = {
            name for name, full in module.imports.items() if is_nameko(full) and name in before and name not in used
        }
        for mark, (origin, name) in needed.items():
            self.local[mark] = self.local_name(origin, name)
            self.want(origin, name, self.local[mark])

    def local_name(self, origin: str, name: str) -> str:
        """What a native name is called in this file: by its own name, unless that means something else there."""
        imports = self.module.imports
        here = {each for each, full in imports.items() if full == f"{origin}.{name}"}
        if here:
            return min(here)
        is_taken = name in self.used or (name in imports and name not in self.gone)
        return f"Native{name}" if is_taken else name

    def want(self, origin: str, name: str, local: str) -> None:
        """Have a name imported."""
        if self.module.imports.get(local) != f"{origin}.{name}":
            self.wanted.setdefault(origin, set()).add((name, local))

    def visit_IndentedBlock(self, node: cst.IndentedBlock) -> None:
        """Imports in here stay here: they are for one function, or may fail on purpose."""
        self.depth += 1

    def leave_IndentedBlock(
        self, original_node: cst.IndentedBlock, updated_node: cst.IndentedBlock
    ) -> cst.IndentedBlock:
        """Out again."""
        self.depth -= 1
        return updated_node

    def leave_SimpleStatementLine(
        self, original_node: cst.SimpleStatementLine, updated_node: cst.SimpleStatementLine
    ) -> cst.SimpleStatementLine | cst.RemovalSentinel:
        """A line of which nothing is left goes; what was commented there goes before the new imports."""
        if self.depth or not is_import(original_node):
            return updated_node
        if updated_node.body:
            self.comments += [each for each in comments_in(original_node) if each not in comments_in(updated_node)]
            return updated_node
        if self.is_placed:
            self.comments += comments_in(original_node)
            return cst.RemoveFromParent()
        self.is_placed = True
        self.comments += [each for each in comments_in(original_node) if each not in leading_comments(original_node)]
        here = cst.parse_statement(PLACE)
        assert isinstance(here, cst.SimpleStatementLine)
        return here.with_changes(leading_lines=original_node.leading_lines)

    def leave_ImportFrom(
        self, original_node: cst.ImportFrom, updated_node: cst.ImportFrom
    ) -> cst.ImportFrom | cst.RemovalSentinel:
        """Keep what is still used and has no other place."""
        origin = as_nameko(helpers.get_full_name_for_node(original_node.module) or "") if original_node.module else ""
        if self.depth or original_node.relative or not origin or not is_nameko(origin):
            return updated_node
        if isinstance(updated_node.names, cst.ImportStar):
            return updated_node
        kept = [alias for alias in updated_node.names if not self.leaves(origin, alias)]
        if len(kept) == len(updated_node.names):
            return updated_node
        if not kept:
            return cst.RemoveFromParent()
        last = updated_node.names[-1].comma if updated_node.lpar else cst.MaybeSentinel.DEFAULT
        kept[-1] = kept[-1].with_changes(comma=last)
        return updated_node.with_changes(names=kept)

    def leaves(self, origin: str, alias: cst.ImportAlias) -> bool:
        """Whether an imported name goes from this statement; it is wanted elsewhere if it is still used."""
        full, local = f"{origin}.{alias.evaluated_name}", alias.evaluated_alias or alias.evaluated_name
        if full in self.moved and local in self.used:
            self.want(*self.moved[full], local)
            return True
        return local in self.gone

    def leave_Import(self, original_node: cst.Import, updated_node: cst.Import) -> cst.Import | cst.RemovalSentinel:
        """``import nameko.rpc`` goes once nothing says ``nameko`` any more."""
        if self.depth:
            return updated_node
        kept = [
            alias
            for alias in updated_node.names
            if not (is_nameko(as_nameko(alias.evaluated_name)) and local_of(alias) in self.gone)
        ]
        if len(kept) == len(updated_node.names):
            return updated_node
        if not kept:
            return cst.RemoveFromParent()
        return updated_node.with_changes(names=[*kept[:-1], kept[-1].with_changes(comma=cst.MaybeSentinel.DEFAULT)])

    def statements(self) -> list[cst.SimpleStatementLine]:
        """The imports to add."""
        lines = []
        for origin, names in sorted(self.wanted.items()):
            listed = ", ".join(name if name == local else f"{name} as {local}" for name, local in sorted(names))
            statement = cst.parse_statement(f"from {origin} import {listed}")
            assert isinstance(statement, cst.SimpleStatementLine)
            lines.append(statement)
        return lines


def local_of(alias: cst.ImportAlias) -> str:
    """The name that ``import a.b`` or ``import a.b as c`` makes."""
    return alias.evaluated_alias or alias.evaluated_name.partition(".")[0]


def comments_in(node: cst.CSTNode) -> list[str]:
    """The comments in and right before a piece of code."""
    return [found.value for found in matchers.findall(node, matchers.Comment()) if isinstance(found, cst.Comment)]


def leading_comments(node: cst.SimpleStatementLine) -> list[str]:
    """The comments on the lines before a statement."""
    return [each.comment.value for each in node.leading_lines if each.comment is not None]


def placed(module: cst.Module, imports: NativeImports) -> cst.Module:
    """Put the new imports where the first import that went was, else behind the last import at the top."""
    added = imports.statements()
    body = list(module.body)
    place = next((index for index, each in enumerate(body) if is_place(each)), None)
    if place is None and not added:
        return module
    leading: list[cst.EmptyLine] = []
    if place is not None:
        leading += getattr(body.pop(place), "leading_lines", [])
    else:
        place = first_place(module)
    leading += [cst.EmptyLine(indent=False, comment=cst.Comment(each)) for each in imports.comments]
    if added:
        added[0] = added[0].with_changes(leading_lines=leading)
    return module.with_changes(body=[*body[:place], *added, *body[place:]])


def is_place(statement: cst.CSTNode) -> bool:
    """Whether this stands where the new imports go."""
    return isinstance(statement, cst.SimpleStatementLine) and matchers.matches(
        statement, matchers.SimpleStatementLine(body=[matchers.Expr(matchers.Name(PLACE))])
    )


def first_place(module: cst.Module) -> int:
    """Behind the last import at the top level; where there is none, behind docstring and ``__future__``."""
    last = 0
    for index, statement in enumerate(module.body):
        if is_docstring_or_future(statement) or is_import(statement):
            last = index + 1
    return last


def is_import(statement: cst.CSTNode) -> bool:
    """Whether a statement imports."""
    return isinstance(statement, cst.SimpleStatementLine) and isinstance(statement.body[0], cst.Import | cst.ImportFrom)


def is_docstring_or_future(statement: cst.CSTNode) -> bool:
    """Whether a statement has to stay in front of imports."""
    if not isinstance(statement, cst.SimpleStatementLine):
        return False
    first = statement.body[0]
    if isinstance(first, cst.ImportFrom) and first.module is not None:
        return helpers.get_full_name_for_node(first.module) == "__future__"
    return isinstance(first, cst.Expr) and isinstance(first.value, cst.SimpleString | cst.ConcatenatedString)


def named(module: cst.Module, needed: Iterable[str], local: Mapping[str, str]) -> cst.Module:
    """Put what they are called in this file in place of the stand-ins."""
    return module.visit(StandIns(local)) if needed else module


class StandIns(cst.CSTTransformer):
    """Replaces stand-ins."""

    def __init__(self, local: Mapping[str, str]) -> None:
        super().__init__()
        self.local = local

    def leave_Name(self, original_node: cst.Name, updated_node: cst.Name) -> cst.Name:
        """By what it stands for."""
        name = self.local.get(updated_node.value)
        return updated_node if name is None else updated_node.with_changes(value=name)


class CompatNames(cst.CSTTransformer):
    """``nameko`` becomes ``nameko_compat``: in imports, and where an import made the name."""

    METADATA_DEPENDENCIES = (metadata.ScopeProvider,)

    def __init__(self) -> None:
        super().__init__()
        self.plain: dict[cst.ImportAlias, bool] = {}

    def leave_ImportFrom(
        self, original_node: cst.ImportFrom, updated_node: cst.ImportFrom
    ) -> cst.ImportFrom | cst.FlattenSentinel[cst.ImportFrom]:
        """``from nameko... import``; what nameko_compat is without stays as it is."""
        origin = helpers.get_full_name_for_node(original_node.module) if original_node.module else None
        if original_node.relative or not origin or not is_nameko(origin):
            return updated_node
        if isinstance(updated_node.names, cst.ImportStar):
            return self.moved(updated_node, origin)
        absent = [each for each in updated_node.names if is_absent(f"{origin}.{each.evaluated_name}")]
        if len(absent) == len(updated_node.names):
            return updated_node
        if not absent:
            return self.moved(updated_node, origin)
        there = [each for each in updated_node.names if each not in absent]
        return cst.FlattenSentinel([self.moved(only(updated_node, there), origin), only(updated_node, absent)])

    def moved(self, node: cst.ImportFrom, origin: str) -> cst.ImportFrom:
        """The same names from nameko_compat."""
        return node.with_changes(module=compat_name(origin))

    def leave_ImportAlias(self, original_node: cst.ImportAlias, updated_node: cst.ImportAlias) -> cst.ImportAlias:
        """``import nameko...``."""
        name = original_node.evaluated_name
        parent_is_import = self.plain.get(original_node, False)
        if not parent_is_import or not is_nameko(name):
            return updated_node
        if is_absent(name):
            return updated_node
        return updated_node.with_changes(name=compat_name(name))

    def visit_Import(self, node: cst.Import) -> None:
        """Note that its names are modules."""
        self.plain.update(dict.fromkeys(node.names, True))

    def leave_Name(self, original_node: cst.Name, updated_node: cst.Name) -> cst.Name:
        """Uses of ``nameko`` where ``import nameko...`` made that name."""
        if original_node.value != "nameko":
            return updated_node
        try:
            scope = self.get_metadata(metadata.ScopeProvider, original_node)
        except KeyError:  # a part of an import or of a longer name
            return updated_node
        made = list(scope["nameko"]) if scope is not None and "nameko" in scope else []
        by_import = [each for each in made if isinstance(each, metadata.ImportAssignment)]
        if not by_import or len(by_import) < len(made) or any(self.stays(each) for each in by_import):
            return updated_node
        return updated_node.with_changes(value=COMPAT)

    def stays(self, assignment: metadata.ImportAssignment) -> bool:
        """Whether an import is left on Nameko."""
        node = assignment.node
        return isinstance(node, cst.Import) and any(
            is_nameko(each.evaluated_name) and is_absent(each.evaluated_name) for each in node.names
        )


def only(node: cst.ImportFrom, aliases: Sequence[cst.ImportAlias]) -> cst.ImportFrom:
    """The same statement with some of its names, on one line."""
    names = [each.with_changes(comma=cst.MaybeSentinel.DEFAULT) for each in aliases]
    return node.with_changes(names=names, lpar=None, rpar=None, semicolon=cst.MaybeSentinel.DEFAULT)


def compat_name(name: str) -> cst.Name | cst.Attribute:
    """``nameko.rpc`` as ``nameko_compat.rpc``."""
    node = helpers.parse_template_expression(f"{COMPAT}{name.removeprefix('nameko')}")
    assert isinstance(node, cst.Name | cst.Attribute)
    return node
