"""Reads the config file that ``--config`` names."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from micro_framework.cli.errors import FailedError, WrongUsageError

__all__ = ["read_config"]


def read_config(path: str | None, environ: Mapping[str, str]) -> dict[str, Any]:
    """Read a config file, YAML or JSON, with ``${VAR:default}`` substituted.

    Args:
        path: The file; None gives an empty configuration.
        environ: The environment variables it may refer to.

    Raises:
        WrongUsageError: There is no such file.
        FailedError: The file cannot be read.
        ConfigError: It holds something else than a configuration.
    """
    if path is None:
        return {}
    from micro_framework.config.text import parse_config  # here, because YAML costs the start

    return parse_config(read_text(Path(path)), environ, source=path)


def read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise WrongUsageError(f"there is no config file '{path}' (looked in {path.absolute().parent})") from None
    except IsADirectoryError:
        raise WrongUsageError(f"the config file '{path}' is a directory; name the file in it") from None
    except UnicodeDecodeError:
        raise FailedError(f"the config file '{path}' is not UTF-8 text; save it as UTF-8") from None
    except OSError as error:
        raise FailedError(f"the config file '{path}' cannot be read: {error.strerror}") from None
