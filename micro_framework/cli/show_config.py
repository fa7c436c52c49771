"""``micro-framework show-config``: the configuration as the services get it."""

import click

from micro_framework.cli.errors import FailedError
from micro_framework.cli.options import configured, with_config
from micro_framework.exceptions import MicroFrameworkError

__all__ = ["show_config"]


@click.command("show-config")
@with_config
def show_config(config_path: str | None, defines: tuple[str, ...], broker: str | None) -> None:
    """Print the configuration as YAML, variables substituted and secrets hidden; exit code 1 if it cannot be used."""
    import yaml

    from micro_framework.config import Settings
    from micro_framework.config.uris import redact

    try:
        config = configured(config_path, defines, broker)
        click.echo(yaml.safe_dump(redact(config), default_flow_style=False, allow_unicode=True), nl=False)
        Settings.from_mapping(config)
    except MicroFrameworkError as error:
        raise FailedError(str(error)) from error
