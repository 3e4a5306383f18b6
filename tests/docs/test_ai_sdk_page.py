"""What is in the page about Vercel's AI SDK alone, in Node."""

from collections.abc import Callable, Iterator

import pytest

from tests.docs.chats import AI_SDK, Chat
from tests.docs.pages import backend, driving


@pytest.fixture(scope="module")
def chats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Chat]]:
    """Begins chats with the page's server and client."""
    folder = tmp_path_factory.mktemp("client")
    with (
        backend(AI_SDK.page, tmp_path_factory.mktemp("server")) as served,
        driving(AI_SDK.page, AI_SDK.environment, AI_SDK.driver, folder) as driver,
    ):
        yield lambda: Chat(AI_SDK, served, driver)


@pytest.fixture
def chat(chats: Callable[[], Chat]) -> Chat:
    """A new chat."""
    return chats()


def test_the_package_itself_resumes(chat: Chat) -> None:
    """One replay makes one message of the package's own Chat; after it, 204 changes nothing."""
    first = chat.begin("one ")
    second = chat.open()
    second.do("resume")
    seen = second.shows("one ")
    assert (seen["messages"], seen["end"]) == ([["assistant", "one "]], "streaming")
    assert seen["ids"] == first.told()["ids"][1:]
    chat.end("two")
    for _ in range(2):
        told = second.settled()
        assert (told["messages"], told["end"]) == ([["assistant", "one two"]], "ready")
        second.do("resume")
    chat.sees(first, "Hello.", "one two")


def test_edits_replace(chat: Chat) -> None:
    """A regenerated answer takes the old one's place, and an edited question that of the rest."""
    client = chat.begin("one")
    chat.model.end()
    client.settled()
    client.do("regenerate")
    chat.end("two")
    chat.sees(client, "Hello.", "two")
    chat.sees(chat.visit("two"), "Hello.", "two")
    client.do("edit", 0, "Hi.")
    chat.end("three")
    chat.sees(client, "Hi.", "three")
    chat.sees(chat.visit("three"), "Hi.", "three")
    assert chat.model.asked[-3:] == [["Hello."], ["Hello."], ["Hi."]]
