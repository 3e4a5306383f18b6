"""``python -m hermes_session_mw.cli``: the command, where its script is not installed."""

from hermes_session_mw.cli import main

if __name__ == "__main__":  # pragma: no branch  # nobody imports it
    main()
