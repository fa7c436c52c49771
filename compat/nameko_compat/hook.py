"""``import nameko`` means `nameko_compat`; eventlet and nameko_amqp_retry mean shims in it: where `install` was called.

The finder stands before all others, so it does not matter whether the real packages are installed too. A module has one
identity: ``nameko.rpc`` is the very module ``nameko_compat.rpc``.
"""

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

from nameko_compat.absent import absent_module

__all__ = ["AliasFinder", "AliasLoader", "install", "uninstall"]

ALIASES = {
    "nameko": "nameko_compat",
    "eventlet": "nameko_compat.green",
    "nameko_amqp_retry": "nameko_compat.amqp_retry",
}


class AliasLoader(Loader):
    """Gives a module that is there under another name.

    Args:
        target: That name.
    """

    def __init__(self, target: str) -> None:
        self.target = target
        self.spec: ModuleSpec | None = None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module."""
        module = importlib.import_module(self.target)
        self.spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """It has run already; its own spec is put back."""
        module.__spec__ = self.spec


class AliasFinder(MetaPathFinder):
    """Finds what is imported as ``nameko`` or ``eventlet``, and all below."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of a module by its alias.

        Raises:
            ModuleNotFoundError: It is below one of them and not there.
        """
        root, _, below = fullname.partition(".")
        if root not in ALIASES:
            return None
        real = standing_for(root, below)
        if not is_there(real) or (root == "nameko" and absent_module(below)):
            raise ModuleNotFoundError(self.refusal(root, below), name=fullname)
        loader = AliasLoader(real)
        return ModuleSpec(fullname, loader, is_package=is_package(real))

    def refusal(self, root: str, below: str) -> str:
        """Why a module is not there."""
        if root == "eventlet":
            return (
                f"eventlet.{below} is not in nameko_compat, where eventlet means threads; use the standard library's "
                "modules, which wait without it, or take that part out"
            )
        if root == "nameko_amqp_retry":
            return f"nameko_amqp_retry.{below} is not in nameko_compat, where retries are those of micro_framework"
        reason = absent_module(below) or "Nameko has no such module either"
        return f"nameko.{below} is not in nameko_compat: {reason}"


def standing_for(root: str, below: str) -> str:
    """The name of the module that is meant."""
    green, _, standard = below.partition(".")
    if (root, green) == ("eventlet", "green") and standard.partition(".")[0] in sys.stdlib_module_names:
        return standard
    return f"{ALIASES[root]}.{below}" if below else ALIASES[root]


def is_there(name: str) -> bool:
    """Whether there is a module of this name."""
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def is_package(name: str) -> bool:
    """Whether that module has others below it."""
    spec = importlib.util.find_spec(name)
    return spec is not None and spec.submodule_search_locations is not None


finder = AliasFinder()


def install() -> None:
    """Let ``nameko`` and ``eventlet`` mean this package's. Idempotent.

    Raises:
        RuntimeError: The real ones have been imported already.
    """
    for alias, real in ALIASES.items():
        found = sys.modules.get(alias)
        if found is not None and found is not sys.modules.get(real):
            where = getattr(found, "__file__", None)
            raise RuntimeError(f"{alias} has been imported already, from {where}, and cannot be replaced any more")
    if finder not in sys.meta_path:
        sys.meta_path.insert(0, finder)


def uninstall() -> None:
    """Undo `install`, for tests: what was imported under the aliases is forgotten."""
    if finder in sys.meta_path:
        sys.meta_path.remove(finder)
    for name in [name for name in sys.modules if name.partition(".")[0] in ALIASES]:
        del sys.modules[name]
