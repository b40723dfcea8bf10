"""Settings of a server, read once: from the command line, else from `PLUE_…` variables.

Frozen after reading. Nothing else in the server reads the environment, except for what it passes
on to runners. The database's address may hold a password, so it is masked when shown.
"""

from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from plue.errors import UsageError

__all__ = ["Settings"]


class Settings(BaseSettings):
    """What `plue up` can be told."""

    model_config = SettingsConfigDict(env_prefix="PLUE_", frozen=True, extra="ignore")

    data: Path | None = Field(default=None, description="Where the server keeps everything.")
    port: int | None = Field(default=None, ge=1, le=65535, description="The API's port.")
    database: SecretStr | None = Field(default=None, description="A Postgres instead of ours.")
    runners: int = Field(default=2, ge=0, le=100, description="Runners that wait, warm.")
    max_runners: int = Field(default=8, ge=1, le=200, description="Runners at most.")
    model_server: Path | None = Field(default=None, description="A script that answers models.")
    models: Path | None = Field(default=None, description="A file of model settings.")
    budgets: str = Field(
        default="run.usd=10,day.usd=100",
        description="What models may cost: SCOPE.UNIT=AMOUNT, separated by commas.",
    )
    log_days: int = Field(default=30, ge=1, le=3650, description="How long logs are kept.")
    run_days: int = Field(default=90, ge=1, le=3650, description="How long runs are kept.")

    @classmethod
    def load(cls, **given: object) -> Self:
        """Return the settings; what is *given* and not None outranks the environment.

        Raises UsageError that names the setting.
        """
        try:
            return cls.model_validate({k: v for k, v in given.items() if v is not None})
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0])
            raise UsageError(
                f"--{name.replace('_', '-')} (or PLUE_{name.upper()}): {first['msg']}",
                field=name,
                remedy="see `plue up --help`",
            ) from error
