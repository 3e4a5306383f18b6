"""Databases as each version of the package left them."""

from typing import Any

from sqlalchemy import Connection, inspect

from tests.support.server import ROOT

OLD_PACKAGE = (
    ROOT / "tests" / "stores" / "sqlalchemy" / "migrations" / "0.1.0"
) / "hermes_session_mw-0.1.0-py3-none-any.whl"
"""The code of 0.1.0, built from its last commit: Python imports it from there."""

VERSIONS = ["draft-1", "draft-2", "draft-3", "0.1.0", "0.2.0"]
"""Oldest first."""

TABLES = [
    "hermes_answer_events",
    "hermes_answers",
    "hermes_archive",
    "hermes_counters",
    "hermes_keys",
    "hermes_labels",
    "hermes_message_ids",
    "hermes_messages",
    "hermes_sessions",
]


def load_version(connection: Connection, version: str) -> None:
    """Make the tables that ``version`` made, and the rows that it wrote."""
    folder = ROOT / "tests" / "stores" / "sqlalchemy" / "migrations" / version
    make_tables(connection, version)
    _run(connection, (folder / "rows.sql").read_text())


def make_tables(connection: Connection, version: str) -> None:
    """Make the tables that ``version`` made."""
    name = f"{connection.dialect.name}.sql".replace("mariadb", "mysql")
    _run(
        connection,
        (ROOT / "tests" / "stores" / "sqlalchemy" / "migrations" / version / name).read_text(),
    )


def _run(connection: Connection, script: str) -> None:
    for statement in script.split(";\n"):
        if statement.strip():
            connection.exec_driver_sql(statement)


def drop_all(connection: Connection) -> None:
    """Leave none of the tables."""
    for name in TABLES:
        connection.exec_driver_sql(f"DROP TABLE IF EXISTS {name}")


def described(connection: Connection) -> dict[str, Any]:
    """Return all that the database tells of the tables, in an order of our own."""
    inspector = inspect(connection)
    return {
        name: {
            "columns": {
                column["name"]: (
                    column["type"].compile(dialect=connection.dialect),
                    column["nullable"],
                    column["default"],
                )
                for column in inspector.get_columns(name)
            },
            "key": inspector.get_pk_constraint(name)["constrained_columns"],
            "references": [
                (each["constrained_columns"], each["referred_table"], each["options"])
                for each in inspector.get_foreign_keys(name)
            ],
            "indexes": {
                str(each["name"]): (
                    each["column_names"],
                    bool(each["unique"]),
                    {key: str(value) for key, value in each.get("dialect_options", {}).items()},
                )
                for each in inspector.get_indexes(name)
            },
            "options": inspector.get_table_options(name),
        }
        for name in TABLES
        if inspector.has_table(name)
    }
