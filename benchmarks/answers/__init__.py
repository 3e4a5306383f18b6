"""What answers cost that outlive their connection: `session.answer()` beside `session.record()`."""
