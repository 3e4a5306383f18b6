"""Master keys, data keys, and the forms of what they encrypt; no database."""

import logging
import os
import pickle
import re
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_session_mw import (
    ConfigurationError,
    Keyring,
    StoreCorrupt,
    StoreMisconfigured,
    StoreUnavailable,
    generate_key,
)
from hermes_session_mw.stores.encryption import KEYS_VARIABLE, MAX_KEY_ID, NotAuthentic

ONE, TWO = bytes(range(32)), bytes(range(1, 33))
RING = Keyring({"k1": ONE, "k2": TWO}, current="k1")
# What messages, titles and ids are made of: any text that is Unicode.
texts = st.text(st.characters(exclude_categories=["Cs"]))
ids = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)


@given(texts | st.binary(), texts, ids, ids)
def test_what_is_sealed_comes_back_in_its_place_alone(
    content: Any, place: str, owner: str, session: str
) -> None:
    """Any text, or bytes, is returned unchanged; and for another place, or cut off, nothing is."""
    wrapped, key = RING.new_data_key(owner, session)
    sealed = key.seal(content, place)
    assert sealed[:4] in ("$h1$", b"$h1$")
    if isinstance(sealed, str):
        assert re.fullmatch(r"\$h1\$[A-Za-z0-9+/]+={0,2}", sealed)  # no comma, and no end of line
    again = RING.unwrap(wrapped, owner, session)
    assert again.open(sealed, place) == content
    for other, where in ((sealed, f"{place}x"), (sealed[:-4], place), (sealed[:8], place)):
        with pytest.raises(NotAuthentic):
            again.open(other, where)


@given(st.data())
def test_a_changed_text_is_refused(data: st.DataObject) -> None:
    """Whatever byte of what is stored is changed, it is not decrypted."""
    _, key = RING.new_data_key("o", "s")
    sealed = bytearray(key.seal(b"some content", "message\0" + "1"))
    at = data.draw(st.integers(4, len(sealed) - 1))
    sealed[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(NotAuthentic):
        key.open(bytes(sealed), "message\0" + "1")


def test_a_data_key_is_its_sessions_and_its_owners() -> None:
    """A wrapped data key that was moved to another owner or session is refused."""
    wrapped, _ = RING.new_data_key("ada", "s1")
    for owner, session in (("ada", "s2"), ("bob", "s1"), ("", "adas1"), ("adas1", "")):
        with pytest.raises(NotAuthentic, match="moved"):
            RING.unwrap(wrapped, owner, session)
    moved = RING.rewrap(wrapped, ("ada", "s1"), ("bob", "s2"))
    RING.unwrap(moved, "bob", "s2")
    with pytest.raises(NotAuthentic):
        RING.unwrap(moved.replace("k1.", "k2."), "bob", "s2")  # the id of another key
    with pytest.raises(NotAuthentic):
        RING.unwrap("no key", "bob", "s2")


def test_a_rewrapped_key_opens_what_it_has_sealed() -> None:
    """The master key is turned, the data key stays, and what is rewritten is under 100 bytes."""
    wrapped, key = RING.new_data_key("o" * 255, "s" * 256)
    place = "o" * 255, "s" * 256
    sealed = key.seal("content", "title")
    longest = "k" * MAX_KEY_ID
    later = Keyring({"k1": ONE, longest: TWO}, current=longest)
    turned = later.rewrap(wrapped, place, place)
    assert len(turned) < 100
    assert (later.is_current(wrapped), later.is_current(turned)) == (False, True)
    only_new = Keyring({longest: TWO}, current=longest)
    assert only_new.unwrap(turned, *place).open(sealed, "title") == "content"
    with pytest.raises(StoreMisconfigured, match="'k1' is not in the keyring"):
        only_new.unwrap(wrapped, *place)


def test_each_text_has_another_nonce() -> None:
    """The same text is never encrypted to the same one twice."""
    _, key = RING.new_data_key("", "s")
    assert len({key.seal("yes", "message\0" + "0") for _ in range(100)}) == 100
    assert RING.new_data_key("", "s")[0] != RING.new_data_key("", "s")[0]


@pytest.mark.parametrize(
    ("keys", "current", "problem"),
    [
        ({"k1": ONE}, "k2", "has no key 'k2'"),
        ({}, "k1", "has no key 'k1'"),
        ({"k1": ONE[:16]}, "k1", "'k1' is 16 bytes"),
        ({"k1": "x" * 32}, "k1", "'k1' is a str"),
        ({"k 1": ONE}, "k 1", "is no id of a key"),
        ({"k" * 17: ONE}, "k" * 17, "is no id of a key"),
        ({"k.1": ONE}, "k.1", "is no id of a key"),
    ],
)
def test_what_is_no_keyring_is_refused(keys: dict[str, bytes], current: str, problem: str) -> None:
    """A key of another length, an id of other characters, and a missing current key are refused."""
    with pytest.raises(ConfigurationError, match=problem) as caught:
        Keyring(keys, current=current)
    assert "x" * 32 not in str(caught.value)


def encoded(key: bytes) -> str:
    return b64encode(key).decode()


def test_keys_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable has keys with their ids; the first is the current one."""
    monkeypatch.setenv(KEYS_VARIABLE, f"new:{encoded(TWO)},k1:{encoded(ONE)}")
    ring = Keyring.from_environment(cache_size=7)
    assert (ring.current, ring.cache_size) == ("new", 7)
    ring.unwrap(RING.new_data_key("", "s")[0], "", "s")
    monkeypatch.delenv(KEYS_VARIABLE)
    with pytest.raises(ConfigurationError, match=KEYS_VARIABLE):
        Keyring.from_environment()


def test_keys_come_from_a_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file has a key on each line, and comments; one that everybody can read is warned of."""
    file = tmp_path / "keys"
    file.write_text(f"# turned in May\nk2:{encoded(TWO)}\n\nk1:{encoded(ONE)}\n")
    file.chmod(0o640)
    with caplog.at_level(logging.INFO):
        ring = Keyring.from_file(file, cache_size=7)
        assert (ring.current, ring.cache_size) == ("k2", 7)
        assert not caplog.records
        file.chmod(0o644)
        Keyring.from_file(str(file))
    assert ["every user" in each.getMessage() for each in caplog.records] == [True]
    with pytest.raises(ConfigurationError, match="FileNotFoundError"):
        Keyring.from_file(tmp_path / "none")


@pytest.mark.parametrize(
    "text",
    ["", "# k1:x", encoded(ONE), f"k1={encoded(ONE)}", "k1:not base64!", f"k1:{encoded(ONE[:8])}",
     f"k1:{encoded(ONE)} k1:{encoded(TWO)}"],
)  # fmt: skip
def test_a_text_of_another_form_is_refused(text: str) -> None:
    """The error says what is wrong, and quotes no key."""
    with pytest.raises(ConfigurationError) as caught:
        Keyring.from_text(text)
    assert encoded(ONE)[:8] not in str(caught.value)


def test_a_callable_is_asked_once_for_each_key() -> None:
    """Keys may come from a secret manager; what it does not have, or fails at, is told by name."""
    asked: list[str] = []

    def fetch(key_id: str) -> bytes:
        asked.append(key_id)
        if key_id == "slow":
            raise OSError("https://user:password@vault")
        return {"k1": ONE}[key_id]

    ring = Keyring(fetch, current="k1")
    assert asked == []
    for _ in range(3):
        ring.unwrap(ring.new_data_key("", "s")[0], "", "s")
    assert asked == ["k1"]
    with pytest.raises(StoreMisconfigured, match="'k2' is not in the keyring"):
        ring.unwrap(Keyring({"k2": TWO}, current="k2").new_data_key("", "s")[0], "", "s")
    with pytest.raises(StoreUnavailable, match="OSError") as caught:
        ring.unwrap(Keyring({"slow": TWO}, current="slow").new_data_key("", "s")[0], "", "s")
    assert "password" not in str(caught.value)


def test_a_keyring_shows_no_key() -> None:
    """Neither its representation, nor an attribute, nor a pickle has a key."""
    key = generate_key()
    assert len(key) == 32 != len({key})
    ring = Keyring({"k1": key}, current="k1")
    shown = f"{ring!r} {ring} {vars(ring)} {ring.new_data_key('', 's')[1]!r}"
    assert "<Keyring current='k1' keys=[k1]>" in shown
    for form in (repr(key), key.hex(), encoded(key)):
        assert form not in shown
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(ring)
    assert issubclass(NotAuthentic, StoreCorrupt)


def test_without_cryptography_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A keyring without the package says how to install it."""
    name = "cryptography.hazmat.primitives.ciphers.aead"
    monkeypatch.setitem(__import__("sys").modules, name, None)
    with pytest.raises(ConfigurationError, match=re.escape("hermes_session_mw[encryption]")):
        Keyring({"k1": os.urandom(32)}, current="k1")
