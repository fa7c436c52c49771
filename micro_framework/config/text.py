"""The text of a config file: YAML with Nameko's environment substitution (seen on Nameko 2.14.1 and
3.0.0rc11).

``${NAME}`` is the variable's value, ``${NAME:default}`` the default where the variable is not set, and
nothing where there is no default. Any number of them may stand in one scalar, in keys too, and a default may
hold others. The result is read as YAML again, so ``${WORKERS:10}`` is a number. Only scalars *without quotes*
are substituted: in quotes the text stays as it is, unless it is tagged ``!env_var "..."`` (substituted and
read as YAML) or ``!raw_env_var "..."`` (substituted and kept as text). JSON is YAML with everything quoted,
so nothing is substituted in it.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

import yaml

from micro_framework.exceptions import ConfigError

__all__ = ["parse_config", "substitute"]

DEPTH = 10
"""How often a substituted value may itself ask for substitution; a variable that names itself stops here."""

name_at = re.compile(r"\$\{([^{}:\s]+)(?=[:}])")
looks_substituted = re.compile(r".*\$\{.*\}.*")
quoted = re.compile(r"'[^']*'|\"[^\"]*\"")


class SubstitutionError(ValueError):
    """The substitution in one scalar cannot be done; the text says why and what to write."""


def parse_config(text: str, environ: Mapping[str, str], *, source: str) -> dict[str, Any]:
    """Read the text of a config file.

    Args:
        text: YAML or JSON whose top level is a mapping; an empty text is an empty configuration.
        environ: The environment variables that ``${NAME:default}`` refers to.
        source: The file's name, for messages.

    Returns:
        The configuration as plain Python values, not yet validated.

    Raises:
        ConfigError: The text cannot be read; names file, line and fix, and quotes nothing that may be a
            secret.
    """
    value = read_json(text) if text.lstrip().startswith("{") else None
    if value is None:
        value = read_yaml(text, environ, source)
    if value is None:
        return {}
    if isinstance(value, dict):
        return value
    held = "list" if isinstance(value, list) else "single value"
    problem = f"it holds a {held}; expected keys with values, for example 'MAX_WORKERS: 10'"
    raise ConfigError(f"the config file {source} cannot be used", [problem])


def read_json(text: str) -> object:
    # YAML's reader knows neither tabs nor 1e5 nor pairs of \ud83d escapes, all of which JSON has.
    try:
        return json.loads(text)
    except ValueError:
        return None


def read_yaml(text: str, environ: Mapping[str, str], source: str) -> object:
    try:
        return load(text, environ, DEPTH)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = where + explain(error.problem or "not YAML")
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        problem = f"line {line}: a character that YAML does not allow; save the file as plain UTF-8 text"
    raise ConfigError(f"the config file {source} cannot be read", [problem])


def load(text: str, environ: Mapping[str, str], depth: int) -> object:
    loader = ConfigLoader(text, environ, depth)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


FIXES = {
    "undefined alias": "put a value that starts with '*' in quotes",
    "constructor for the tag": (
        "the tags of a config file are !env_var and !raw_env_var; a value that starts with '!' needs quotes"
    ),
    "cannot start any token": "indent with spaces, and quote a value that starts with this character",
    "mapping values are not allowed": "quote a value that holds ': ', after !env_var if it holds ${...}",
    "but got '{'": 'inside [ ] and { } write !env_var "${NAME}" instead of ${NAME}',
    "another document": "keep one document and remove the '---' lines",
    "unhashable key": "a key is a plain word or number",
    "unexpected end of stream": "a quote is not closed",
    "'<stream end>'": "a [ or { is not closed",
    "expected <block end>": "keys of one mapping need the same indentation",
    "could not find expected ':'": "write 'KEY: value'",
}


def explain(problem: str) -> str:
    """Add the fix, and drop the words that the reader quotes: they may be half a password."""
    fix = next((fix for sign, fix in FIXES.items() if sign in problem), "")
    said = problem if "${" in problem else quoted.sub(drop_words, problem).removeprefix("but ")
    return f"{said}; {fix}" if fix else said


def drop_words(match: re.Match[str]) -> str:
    inside = match[0][1:-1]
    says_nothing = len(inside) < 2 or inside[0] == "\\" or inside in ("<stream end>", "<block mapping start>")
    return match[0] if says_nothing else "..."


class ConfigLoader(yaml.SafeLoader):
    """PyYAML's safe loader that also knows ``${NAME:default}``. One per text; not shared between threads."""

    def __init__(self, text: str, environ: Mapping[str, str], depth: int) -> None:
        super().__init__(text)
        self.environ = environ
        self.depth = depth

    def env_var(self, node: yaml.Node) -> object:
        """Substitute, and read the result as YAML."""
        before, after = self.substituted(node)
        if before == after:
            return before
        try:
            return self.load_again(after)
        except yaml.YAMLError:
            problem = (
                f"what {', '.join(variables(before))} stands for cannot be read as YAML; "
                "put the value in quotes after !raw_env_var to take it as text"
            )
        except SubstitutionError as error:
            if self.depth < DEPTH:
                raise
            problem = str(error)
        raise trouble(node, problem)

    def load_again(self, text: str) -> object:
        if self.depth == 0:
            raise SubstitutionError(f"its variables refer to each other more than {DEPTH} times")
        return load(text, self.environ, self.depth - 1)

    def raw_env_var(self, node: yaml.Node) -> str:
        """Substitute, and take the result as text."""
        return self.substituted(node)[1]

    def substituted(self, node: yaml.Node) -> tuple[str, str]:
        before = str(self.construct_scalar(node))  # type: ignore[arg-type]  # refuses what is no scalar
        try:
            return before, substitute(before, self.environ)
        except SubstitutionError as error:
            raise trouble(node, str(error)) from None


ConfigLoader.add_constructor("!env_var", ConfigLoader.env_var)
ConfigLoader.add_constructor("!raw_env_var", ConfigLoader.raw_env_var)
ConfigLoader.add_implicit_resolver("!env_var", looks_substituted, None)


def variables(text: str) -> list[str]:
    return sorted({f"${{{name}}}" for name in name_at.findall(text)})


def trouble(node: yaml.Node, problem: str) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


def substitute(text: str, environ: Mapping[str, str]) -> str:
    """Replace every ``${NAME}`` and ``${NAME:default}`` of a text; braces inside a default must be balanced.

    What does not look like a variable (``$NAME``, ``${}``, ``${two words}``) stays as it is.

    Args:
        text: The scalar as written.
        environ: The variables' values.

    Raises:
        SubstitutionError: A ``${NAME:`` is never closed.
    """
    done, position = "", 0
    while match := name_at.search(text, position):
        end = closing_brace(text, match.end(), match[1])
        done += text[position : match.start()] + value_of(match[1], text[match.end() : end], environ)
        position = end + 1
    return done + text[position:]


def value_of(name: str, default: str, environ: Mapping[str, str]) -> str:
    value = environ.get(name)
    return substitute(default[1:], environ) if value is None else value


def closing_brace(text: str, position: int, name: str) -> int:
    depth = 1
    for index in range(position, len(text)):
        depth += {"{": 1, "}": -1}.get(text[index], 0)
        if depth == 0:
            return index
    raise SubstitutionError(
        f"the braces of ${{{name}:...}} are not balanced; close each {{ of the default, "
        "or put the value in quotes to take it literally"
    )
