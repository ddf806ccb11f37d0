"""Where a study is kept: a SQLite file of one machine, or a PostgreSQL that several share.

Whatever the database does wrong is one clear error.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from edgepack.errors import BoardError, UsageError
from edgepack.home import home


def default_storage(name: str) -> str:
    """A file of this user's own for a study that one machine works on."""
    path = home() / "studies" / f"{name}.db"
    path.parent.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{path}"


def check_storage(url: str) -> str:
    """What SQLAlchemy is to open. Raises UsageError for another kind of database, or one whose URL holds a password."""
    if _holds_password(url):
        raise UsageError(
            f"--storage {shown(url)} holds a password, which everybody sees in the list of processes",
            expected="postgresql://USER@HOST/DATABASE",
            advice="put it into ~/.pgpass or PGPASSWORD: PostgreSQL's own client library reads both",
        )
    if url.startswith(("postgresql://", "postgres://")):
        return "postgresql+psycopg://" + url.partition("://")[2]
    if url.startswith("sqlite:///"):
        return url
    raise UsageError(
        f"--storage {shown(url)!r} is no database", expected="postgresql://USER@HOST/DATABASE or sqlite:///FILE"
    )


def one_at_a_time(engine: Any) -> None:
    """Let a SQLite transaction hold the file from its first read on, so that no two workers take the same waiting trial.

    optuna locks the row for that, which SQLite does not know. As SQLAlchemy's documentation of pysqlite says.
    """
    from sqlalchemy import event

    def connect(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # the driver begins none of its own

    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    event.listen(engine, "connect", connect)
    event.listen(engine, "begin", begin)
    engine.dispose()  # those that were opened before


def quietly(make: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # optuna calls its heartbeat experimental
        return make(*arguments, **options)


def lost(url: str, error: Exception) -> BoardError:
    said = str(getattr(error, "orig", None) or error.__cause__ or error).strip().splitlines()
    return BoardError(
        f"the study's database {shown(url)} does not work: {said[0] if said else type(error).__name__}",
        expected="a database that this user may write to",
        advice="the same command goes on where it was once the database is back",
    )


def shown(url: str) -> str:
    """A storage as messages name it: without who asks, a password and options."""
    if url.startswith("sqlite"):
        return url
    scheme, mark, rest = url.partition("?")[0].partition("://")
    return scheme + mark + rest.rpartition("@")[2]


def _holds_password(url: str) -> bool:
    if url.startswith("sqlite"):
        return False
    place, _, options = url.partition("?")
    return ":" in place.partition("://")[2].rpartition("@")[0] or "password=" in options.lower()


@contextmanager
def named_errors(url: str) -> Iterator[None]:
    """Whatever the database does is one clear error."""
    import optuna
    import sqlalchemy

    try:
        yield
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        raise lost(url, error) from None
