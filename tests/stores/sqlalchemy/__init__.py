"""The SQL store: its engine, tables, migrations, statements and operator's view."""
