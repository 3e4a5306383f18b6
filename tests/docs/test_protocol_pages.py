"""The pages about other protocols are true: their servers serve the real packages."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.chats import AG_UI, AI_SDK, Chat, Protocol, said
from tests.docs.pages import Backend, Driver, backend, driving, wait_for


@pytest.fixture(scope="module", params=[AI_SDK, AG_UI], ids=lambda each: each.environment)
def protocol(request: pytest.FixtureRequest) -> Protocol:
    """Each of the protocols."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def served(protocol: Protocol, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """The page's server."""
    with backend(protocol.page, tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="module")
def driver(protocol: Protocol, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    """The page's client in Node."""
    folder = tmp_path_factory.mktemp("client")
    with driving(protocol.page, protocol.environment, protocol.driver, folder) as running:
        yield running


@pytest.fixture
def chat(protocol: Protocol, served: Backend, driver: Driver) -> Chat:
    """A new chat."""
    return Chat(protocol, served, driver)


def test_a_cut_answer_is_whole_on_every_device(chat: Chat) -> None:
    """Cut off in the middle, a client comes back to the whole answer, while another one follows."""
    asked = len(chat.model.asked)
    first = chat.begin("one ")
    chat.proxy.cut()
    chat.proxy.mend()
    second = chat.visit("one ")
    assert second.told()["messages"] == said("Hello.", "one ")
    chat.model.say("two ")
    second.shows("one two ")
    first.shows("one two ")
    chat.end("three")
    for client in (first, second):
        chat.sees(client, "Hello.", "one two three")
    assert chat.model.asked[asked:] == [["Hello."]]


def test_an_answer_that_has_ended_meanwhile(chat: Chat) -> None:
    """Who comes back after the end is given the whole answer too."""
    first = chat.begin("one ")
    chat.proxy.cut()
    near = chat.open(url=chat.served.url)
    near.do("visit")
    near.shows("one ")
    chat.end("two")
    chat.sees(near, "Hello.", "one two")
    assert first.told()["messages"] == said("Hello.", "one ")
    chat.proxy.mend()
    chat.sees(first, "Hello.", "one two")


def test_who_leaves_can_come_back(chat: Chat) -> None:
    """The package's own way to stop is only that of a client: the answer goes on without it."""
    client = chat.begin("one ")
    client.do("leave")
    client.settled()
    client.do("visit")
    chat.model.say("two ")
    client.shows("two ")  # it is there again before the answer ends
    chat.end("three")
    chat.sees(client, "Hello.", "one two three")


def test_a_question_that_never_arrived_is_sent_again(chat: Chat) -> None:
    """Where there was no connection, the client asks once there is one; the model is asked once."""
    asked, refused = len(chat.model.asked), chat.proxy.refused
    client = chat.open()
    chat.proxy.cut()
    client.do("send", "Hello.")
    wait_for(lambda: chat.proxy.refused > refused)
    assert client.told()["messages"] == said("Hello.")
    chat.proxy.mend()
    chat.end("one")
    chat.sees(client, "Hello.", "one")
    assert chat.model.asked[asked:] == [["Hello."]]
    chat.sees(chat.visit("one"), "Hello.", "one")


def test_a_request_that_is_sent_again_joins_its_answer(chat: Chat) -> None:
    """Under its id a question is one, while it is answered and after that."""
    asked = len(chat.model.asked)
    with chat.asking("1") as first, chat.asking("1") as second:
        chat.end("one")
        bodies = [each.read() for each in (first, second)]
    with chat.asking("1") as late:
        bodies.append(late.read())
    assert bodies == [bodies[0]] * 3
    assert b'"one"' in bodies[0]
    assert len(chat.model.asked) == asked + 1


def test_stop_is_for_every_device(chat: Chat) -> None:
    """The stop route ends the answer wherever it is followed; what has come stays."""
    first = chat.begin("one ")
    second = chat.visit("one ")
    third = chat.open()
    third.do("stop")
    for client in (first, second):
        chat.sees(client, "Hello.", "one ", state="stopped")
    chat.sees(chat.visit("one "), "Hello.", "one ")
    chat.model.end()  # of the answer that nobody reads


def test_a_model_that_fails_is_told_to_every_device(chat: Chat) -> None:
    """An answer that broke off ends in an error, and the chat goes on."""
    first = chat.begin("one ")
    second = chat.visit("one ")
    chat.model.break_off()
    for client in (first, second):
        chat.sees(client, "Hello.", "one ", state="failed")
    first.do("send", "And?")
    chat.end("two")
    chat.sees(first, "Hello.", "one ", "And?", "two")


def test_a_chat_goes_on_elsewhere(chat: Chat) -> None:
    """The model is given what is stored."""
    first = chat.begin("one")
    chat.model.end()
    chat.sees(first, "Hello.", "one")
    second = chat.visit("one")
    second.settled()
    second.do("send", "And?")
    chat.end("two")
    chat.sees(second, "Hello.", "one", "And?", "two")
    assert chat.model.asked[-1] == ["Hello.", "one", "And?"]


def test_a_chat_is_its_owners(chat: Chat) -> None:
    """Another owner finds nothing under its id, and can neither follow nor stop its answer."""
    first = chat.begin("one ")
    bob = chat.open("bob")
    bob.do("visit")
    assert bob.settled()["messages"] == []
    bob.do("stop")
    bob.settled()
    with chat.asking("1", "nobody") as response:
        assert response.status_code == 401
    chat.end("two")
    chat.sees(first, "Hello.", "one two")


def test_a_second_question_is_refused(chat: Chat) -> None:
    """While an answer runs there is no other one: the client shows the refusal."""
    first = chat.begin("one")
    second = chat.open()
    second.do("send", "And?")
    assert "session_busy" in second.settled()["end"]
    chat.model.end()
    chat.sees(first, "Hello.", "one")


@pytest.mark.parametrize("name", ["a..b", "\u00e9", "a b"])
def test_an_id_that_is_none_is_unknown(chat: Chat, name: str) -> None:
    """What no session can have as its id is a 404."""
    chat.id = name
    with chat.asking("1") as response:
        assert response.status_code == 404


def test_another_process_tells_it_too(protocol: Protocol, driver: Driver, tmp_path: Path) -> None:
    """A worker that does not run the answer follows it, and tells how far it came if it dies."""
    database = {"DATABASE_URL": f"sqlite:///{tmp_path}/chats.db"}
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    with (
        backend(protocol.page, folders[0], **database) as one,
        backend(protocol.page, folders[1], **database) as two,
    ):
        chats = [Chat(protocol, one, driver), Chat(protocol, one, driver)]
        for chat in chats:
            first = chat.begin("one ")
            chat.served = two
            second = chat.visit("one ")
            assert second.told()["messages"] == said("Hello.", "one ")
            if chat is chats[-1]:
                one.proxy.lead_to(two.port)
                one.process.kill()
                for client in (first, second):
                    chat.sees(client, "Hello.", "one ", state="failed")
                chat.sees(chat.visit("one "), "Hello.", "one ")
                chat.model.end()  # of the answer that nobody reads
            else:
                chat.end("two")
                for client in (first, second):
                    chat.sees(client, "Hello.", "one two")
