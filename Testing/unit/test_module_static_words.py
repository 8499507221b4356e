"""What the panels say can be translated: read from the sources of the modules and of the room ``scene``."""

from __future__ import annotations

import ast
import re
import string
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
MODULES = ("XTLTransfer", "XTLSegment", "XTLClassify")
LIBRARY = PROJECT / "XTLTransfer" / "XTLLib"


def files_behind_panels() -> list[Path]:
    """The modules, and the files of the room ``scene`` that they come to by imports. The others serve no panel."""
    waiting, found = [PROJECT / name / f"{name}.py" for name in MODULES], []
    while waiting:
        path = waiting.pop()
        if path in found or path.stem == "self_test":  # speaks to developers
            continue
        found.append(path)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.level == 1 or (node.module or "").startswith("XTLLib.scene")):
                name = (node.module or "").removeprefix("XTLLib.scene").strip(".")
                names = [name] if name else [alias.name for alias in node.names]
                waiting += [each for each in (LIBRARY / "scene" / f"{name}.py" for name in names) if each.is_file()]
    return sorted(found)


FILES = files_behind_panels()

SHOWN_PROPERTIES = {"text", "toolTip", "title", "windowTitle", "placeholderText", "statusTip", "helpText"}
SHOWN_PROPERTIES |= {"acknowledgementText", "noneDisplay", "categories"}
SHOWING_CALLS = {"addItem", "setText", "setToolTip", "setTitle", "showMessage", "showStatusMessage", "say", "_say"}
SHOWING_CALLS |= {"errorDisplay", "warningDisplay", "infoDisplay", "confirmOkCancelDisplay", "confirmYesNoDisplay"}
TRANSLATIONS = {"tr", "_", "_tr", "translate"}
UNTRANSLATED_CALLS = {"InputError", "MissingPackageError", "XTLError", "Words", "RuntimeError", "ValueError"}
SENTENCE = re.compile(r"[A-Z][a-z].* .*[.?!]$", re.DOTALL)


def name_of(call: ast.Call) -> str:
    """The last part of what is called: "tr" of ``self.tr(...)``."""
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def untranslated(node: ast.AST) -> Iterator[ast.AST]:
    """Words in an expression that no translation sees."""
    if isinstance(node, ast.Call) and name_of(node) in TRANSLATIONS:
        return
    if isinstance(node, (ast.Subscript, ast.Compare)):  # a key, or a choice between texts by a value
        return
    if isinstance(node, ast.Call) and name_of(node) not in ("format", "join", "str"):
        return  # what other functions give is looked at where they say it
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.search("[A-Za-z]{2}", node.value):
        yield node
        return
    if isinstance(node, ast.FormattedValue):
        yield from untranslated(node.value)
        return
    if isinstance(node, ast.IfExp):
        yield from untranslated(node.body)
        yield from untranslated(node.orelse)
        return
    for child in ast.iter_child_nodes(node):
        yield from untranslated(child)


def shown_words(tree: ast.AST) -> Iterator[ast.AST]:
    """Untranslated words that a widget is given."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            targets = [t for target in node.targets for t in ast.walk(target)]
            if any(isinstance(t, ast.Attribute) and t.attr in SHOWN_PROPERTIES for t in targets):
                yield from untranslated(node.value)
        elif isinstance(node, ast.Call) and name_of(node) in SHOWING_CALLS:
            for argument in node.args:
                yield from untranslated(argument)


def untranslated_sentences(tree: ast.AST) -> Iterator[ast.AST]:
    """Whole sentences that are neither translated, nor documentation, nor the text of an exception."""
    documentation = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            documentation.add(node.value)
    excused = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and name_of(node) in TRANSLATIONS | UNTRANSLATED_CALLS:
            excused.update(ast.walk(node))
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if is_text and node not in documentation | excused and SENTENCE.match(node.value):
            yield node


def bad_translations(tree: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    """Calls of a translation whose text cannot be found by the tool that collects texts, or cannot be reordered."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and name_of(node) in TRANSLATIONS and node.args):
            continue
        text = node.args[-1]
        if not (isinstance(text, ast.Constant) and isinstance(text.value, str)):
            if not isinstance(text, ast.Name):  # handing on a text that somebody else marked
                yield node, "the text has to be one literal; put names in with .format after the translation"
            continue
        fields = [field for _, field, _, _ in string.Formatter().parse(text.value) if field is not None]
        if any(not field or field[0].isdigit() for field in fields):
            yield node, "fields need names, so that a translator can put them in another order"


def identify(path: Path) -> str:
    return path.relative_to(PROJECT).as_posix()


@pytest.fixture(scope="module")
def trees() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=identify)
def test_what_widgets_show_is_translated(path, trees):
    assert [f"line {node.lineno}: {ast.unparse(node)}" for node in shown_words(trees[path])] == []


@pytest.mark.parametrize("path", FILES, ids=identify)
def test_sentences_are_translated(path, trees):
    assert [f"line {node.lineno}: {node.value!r}" for node in untranslated_sentences(trees[path])] == []


@pytest.mark.parametrize("path", FILES, ids=identify)
def test_translations_can_be_collected_and_reordered(path, trees):
    assert [f"line {node.lineno}: {why}" for node, why in bad_translations(trees[path])] == []


@pytest.mark.parametrize(
    "code",
    [
        "ui.label.text = 'Not done'",
        "ui.label.text = f'{count} lesions'",
        "a.text = b.toolTip = missing or 'Choose a file'",
        "self._say('Added ' + name)",
        "box.addItem('none' if empty else _('all'))",
        "ui.label.text = 'Add {name}'.format(name=name)",
    ],
)
def test_untranslated_words_are_found(code):
    assert list(shown_words(ast.parse(code)))


@pytest.mark.parametrize(
    "code",
    [
        "ui.label.text = _('Add {name}').format(name=name)",
        "ui.label.text = ''",
        "ui.label.text = f'{event.stage}, {value:.2f}'",
        "ui.label.text = texts['Apply']",
        "value = 'a b'",
    ],
)
def test_translated_words_are_left_alone(code):
    assert not list(shown_words(ast.parse(code)))


@pytest.mark.parametrize("code", ["_(f'Add {name}')", "tr('Add {}')", "self._tr('Add ' + name)", "_('{0} of {1}')"])
def test_bad_translations_are_found(code):
    assert list(bad_translations(ast.parse(code)))
