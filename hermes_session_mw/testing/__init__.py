"""The contracts of the protocols for stores, as tests for a store of your own.

Derive a test class from `StoreContract`, from `LifecycleContract` if the store edits, leases and
lists too, from `AnswerContract` if it keeps running answers, from `MessageContract` if it is a
`MessageStore`, from `OwnerContract` if it is an `OwnerStore`, from `LabelContract` if it is a
`LabelStore`, and from `SearchContract` if it is a `SearchStore`. Define a fixture ``store`` that
yields the store::

    from hermes_session_mw.testing import StoreContract

    @pytest.fixture
    async def store():
        store = MyStore()
        yield store
        await store.aclose()

    class TestMyStore(StoreContract):
        pass

It needs pytest; the tests are coroutines, which anyio's pytest plugin runs. Each test uses ids and
owners of its own, so that one database serves all of them.

A contract has two parts, which may be run separately: ``...Operations`` is what the database does,
and ``...Arguments`` is what a store refuses before it asks its database. A suite that runs the
operations over many databases needs the arguments once.
"""

import pytest

# Before the modules are imported: so a failed ``assert`` in them shows its values.
pytest.register_assert_rewrite(
    *(
        f"{__name__}.{module}"
        for module in (
            "store_contract",
            "edit_contract",
            "lease_contract",
            "session_list_contract",
            "lifecycle_contract",
            "metadata_contract",
            "label_contract",
            "message_contract",
            "owner_contract",
            "search_contract",
            "answer_contract",
            "answer_writers",
            "fold_contract",
            "history_model",
            "helpers",
        )
    )
)

from hermes_session_mw.testing.answer_contract import (  # noqa: E402  # see above
    AnswerArguments,
    AnswerContract,
    AnswerOperations,
)
from hermes_session_mw.testing.label_contract import (  # noqa: E402  # see above
    LabelArguments,
    LabelContract,
    LabelOperations,
)
from hermes_session_mw.testing.lifecycle_contract import (  # noqa: E402  # see above
    LifecycleArguments,
    LifecycleContract,
    LifecycleOperations,
)
from hermes_session_mw.testing.message_contract import (  # noqa: E402  # see above
    MessageArguments,
    MessageContract,
    MessageOperations,
)
from hermes_session_mw.testing.owner_contract import (  # noqa: E402  # see above
    OwnerArguments,
    OwnerContract,
    OwnerOperations,
)
from hermes_session_mw.testing.search_contract import (  # noqa: E402  # see above
    SearchArguments,
    SearchContract,
    SearchOperations,
)
from hermes_session_mw.testing.store_contract import (  # noqa: E402  # see above
    StoreArguments,
    StoreContract,
    StoreOperations,
)

__all__ = [
    "AnswerArguments",
    "AnswerContract",
    "AnswerOperations",
    "LabelArguments",
    "LabelContract",
    "LabelOperations",
    "LifecycleArguments",
    "LifecycleContract",
    "LifecycleOperations",
    "MessageArguments",
    "MessageContract",
    "MessageOperations",
    "OwnerArguments",
    "OwnerContract",
    "OwnerOperations",
    "SearchArguments",
    "SearchContract",
    "SearchOperations",
    "StoreArguments",
    "StoreContract",
    "StoreOperations",
]
