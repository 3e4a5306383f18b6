"""Runs a store's works over a database that encrypts."""

from collections.abc import Callable

from hermes_session_mw.database.retry import RetryingExecutor
from hermes_session_mw.database.workers.executor import Executor, T, Work
from hermes_session_mw.stores.encryption import Keyring
from hermes_session_mw.stores.sqlalchemy.encryption.database import EncryptingDatabase
from hermes_session_mw.stores.sqlalchemy.encryption.histories import DecryptedHistories


class EncryptingExecutor(RetryingExecutor):
    """A `RetryingExecutor` whose works get an `EncryptingDatabase`."""

    def __init__(
        self,
        executor: Executor,
        errors: tuple[type[Exception], ...],
        timeout: float,
        keyring: Keyring,
        histories: DecryptedHistories | None = None,
    ) -> None:
        super().__init__(executor, errors, timeout)
        self._keyring = keyring
        if histories is None and keyring.cache_size:
            histories = DecryptedHistories(keyring.cache_size)
        self._histories = histories

    def within(self, timeout: float) -> "EncryptingExecutor":
        """See `RetryingExecutor.within`."""
        return EncryptingExecutor(
            self._executor, self._errors, timeout, self._keyring, self._histories
        )

    async def run(
        self,
        work: Work[T],
        *,
        writes: bool,
        may_join: bool = False,
        on_doubt: Callable[[], None] | None = None,
    ) -> T:
        """See `RetryingExecutor.run`."""
        keyring, histories = self._keyring, self._histories
        return await super().run(
            lambda database: work(EncryptingDatabase(database, keyring, histories)),
            writes=writes,
            may_join=may_join,
            on_doubt=on_doubt,
        )
