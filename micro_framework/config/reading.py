"""Goes through a configuration with the table of known keys and collects every problem."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from micro_framework.config.keys import Key, Section
from micro_framework.config.kinds import UnfitError
from micro_framework.config.spelling import nearest
from micro_framework.config.uris import redact_uri

__all__ = ["Reading"]


@dataclass(slots=True)
class Reading:
    """One pass over a configuration. Not shared between threads.

    Args:
        problems: Where the problems go, one sentence each.
    """

    problems: list[str] = field(default_factory=list)

    def table(self, mapping: Mapping[Any, Any], keys: Collection[Key], where: str = "") -> dict[str, Any]:
        """Read the keys that are given.

        Args:
            mapping: The values.
            keys: The keys to look for; others are not looked at.
            where: What to put before a key in messages.

        Returns:
            The values by key, without the keys that are absent, null or wrong.
        """
        read = {key.name: self.value(key, mapping[key.name], where + key.name) for key in keys if key.name in mapping}
        for key in keys:
            if key.required and mapping.get(key.name) is None:
                self.problems.append(f"{where}{key.name} is missing; for example {key.name}: {key.example}")
        return {name: value for name, value in read.items() if value is not None}

    def value(self, key: Key, value: Any, path: str) -> Any:
        """Read one value; a wrong one is noted and counts as absent."""
        if value is None:
            return key.null
        if isinstance(key.kind, Section):
            return self.section(key, key.kind, value, path)
        try:
            read = key.kind.read(value)
        except UnfitError as unfit:
            self.problems.append(self.wrong(key, key.kind.expected, value, path, str(unfit)))
            return None
        if key.not_built(read):
            self.problems.append(f"{path}={value!r} is not built yet in this version; {key.instead}")
        return read

    def section(self, key: Key, section: Section, value: Any, path: str) -> Any:
        """Read a section, or every section of a mapping of names to sections."""
        if not isinstance(value, Mapping):
            expected = "a mapping of names to mappings" if section.named else "a mapping"
            self.problems.append(self.wrong(key, expected, value, path))
            return None
        if not section.named:
            return self.closed(section, value, path)
        return {str(name): self.named(key, section, name, item, path) for name, item in value.items()}

    def named(self, key: Key, section: Section, name: object, value: Any, path: str) -> Any:
        if isinstance(value, Mapping) or value is None:
            return self.closed(section, value or {}, f"{path}.{name}")
        self.problems.append(self.wrong(key, "a mapping", value, f"{path}.{name}"))
        return {}

    def closed(self, section: Section, mapping: Mapping[Any, Any], path: str) -> dict[str, Any]:
        """Read a section, where no unknown key can be the user's own."""
        known = [key.name for key in section.keys]
        for name in mapping:
            if name not in known:
                near = nearest(str(name), known)
                hint = f"did you mean {near}?" if near else f"it may hold {', '.join(known)}"
                self.problems.append(f"{path}.{name} is not a known key; {hint}")
        return self.table(mapping, section.keys, f"{path}.")

    @staticmethod
    def wrong(key: Key, expected: str, value: object, path: str, more: str = "") -> str:
        got = f"{path} is {shown(value)}" if not key.secret else f"{path} is {described(value)}"
        if key.secret and more:
            return f"{path} cannot be used: {more}"
        fix = f"expected {expected}, for example {key.name}: {key.example}"
        unquoted = "; write the number without quotes" if is_quoted_number(key, value) else ""
        return f"{got}; {fix}{f'; {more}' if more else ''}{unquoted}"


def is_quoted_number(key: Key, value: object) -> bool:
    return isinstance(value, str) and value.strip().isdigit() and key.example.isdigit()


def shown(value: object) -> str:
    if isinstance(value, str):
        text = redact_uri(value) if "@" in value else value
        return repr(text if len(text) <= 60 else text[:57] + "...")
    return repr(value) if isinstance(value, bool | int | float) else described(value)


def described(value: object) -> str:
    if isinstance(value, str):
        return "a text" if value else "an empty text"
    if isinstance(value, Mapping):
        return "a mapping"
    return "a list" if isinstance(value, list | tuple) else f"of type {type(value).__name__}"
