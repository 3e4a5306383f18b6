"""Master keys, and the data keys that they wrap; AES-256-GCM by the ``cryptography`` package.

A session has a *data key* of its own, 32 random bytes, which encrypts all that is stored of its
conversation. The data key is stored *wrapped*: encrypted by a *master key*, which has an id and is
never stored. What was encrypted is bound to its place (the associated data of the cipher), so that
it cannot be read in another: a wrapped key to its owner and session, a text to what it is and its
number.

The form of what is stored, where BASE64 is that of 12 bytes of a random nonce, the encrypted bytes,
and 16 bytes of GCM's tag:

- a wrapped data key is ``ID.BASE64``, under 100 characters, with the master key's id;
- a text is ``$h1$BASE64``, which no JSON text can be;
- bytes are ``$h1$``, and then the same without base64.

Nonces are random. With 2**32 texts under one data key, or data keys under one master key, two of
them are the same with a probability of 2**-33 (NIST SP 800-38D, 8.3, allows no more than that).
"""

import os
import re
import stat
from base64 import b64decode
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from hermes_session_mw.exceptions import (
    ConfigurationError,
    StoreCorrupt,
    StoreMisconfigured,
    StoreUnavailable,
)
from hermes_session_mw.logging import logger
from hermes_session_mw.messages import ENCRYPTED

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
"""The bytes of a master key, and of a data key."""

MAX_KEY_ID = 16
"""Characters that a master key's id may have."""

SEALED_BYTES = ENCRYPTED.encode()
"""What encrypted bytes begin with."""

KEYS_VARIABLE = "HERMES_ENCRYPTION_KEYS"
"""The environment variable that `Keyring.from_environment` reads, by default."""

CACHE_SIZE = 8 * 1024 * 1024
"""The default ``cache_size``, in bytes."""

_NONCE = 12
_KEY_ID = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_KEY_ID}}}")

T = TypeVar("T", str, bytes)


class NotAuthentic(StoreCorrupt):
    """What is stored was changed, moved or cut, or was encrypted with another key."""


class UnknownMasterKey(StoreMisconfigured):
    """A session's data key is wrapped by a master key that the keyring does not have."""

    def __init__(self, key_id: str) -> None:
        super().__init__(
            f"the master key {key_id!r} is not in the keyring, and a session's data key is wrapped "
            "by it: give the store that key too"
        )
        self.key_id: str = key_id


class Keyring:
    """Master keys by their ids, one of which is the current one.

    The current key wraps new data keys; the others unwrap those that they have wrapped, until
    ``hermes-sessions rewrap`` has turned them all. A data key in memory lives as long as an
    operation.

    Attributes:
        current: the id of the key that wraps.
        cache_size: bytes for the histories that a store has decrypted last.
        accepts_plain: whether content that is stored plain is read.
    """

    def __init__(
        self,
        keys: Mapping[str, bytes] | Callable[[str], bytes],
        *,
        current: str,
        cache_size: int = CACHE_SIZE,
        accepts_plain: bool = True,
    ) -> None:
        """Check the keys.

        Args:
            keys: 32 random bytes by id, as of `generate_key`; or what returns them for an id, and
                raises ``KeyError`` for an unknown one. It is called once for each id, from any
                thread, at the first use.
            current: the id of the key that wraps new data keys.
            cache_size: bytes of a process's memory for the histories that a store has decrypted
                last, so that a load decrypts only what has come since; 0 to keep none.
            accepts_plain: whether content that is stored plain is read. Once all is encrypted,
                False refuses what somebody who can write to the database has put there.

        Raises:
            ConfigurationError: ``cache_size`` is negative, an id does not have 1 to 16 of the
                characters ``A-Za-z0-9_-``, a key does not have 32 bytes, the current one is
                missing, or ``cryptography`` is.
        """
        if cache_size < 0:
            raise ConfigurationError(f"encryption: the cache_size {cache_size} is negative")
        self.cache_size: int = cache_size
        self.accepts_plain: bool = accepts_plain
        self.current: str = _checked_id(current)
        self._cipher = _cipher_class()
        self._fetch: Callable[[str], bytes] | None = None
        self._ciphers: dict[str, AESGCM] = {}
        self._warned: set[str] = set()
        if callable(keys):
            self._fetch = keys
            return
        for key_id, key in keys.items():
            self._ciphers[_checked_id(key_id)] = self._cipher(_checked_key(key_id, key))
        if current not in self._ciphers:
            raise ConfigurationError(f"encryption: the keyring has no key {current!r}")

    @classmethod
    def from_text(
        cls, text: str, *, cache_size: int = CACHE_SIZE, accepts_plain: bool = True
    ) -> "Keyring":
        """Return the keyring of ``ID:BASE64`` parts, between white space or commas.

        The first is the current one. A line that begins with ``#`` is a comment.

        Raises:
            ConfigurationError: a part is not of this form, an id is there twice, or there is none.
        """
        lines = (line for line in text.splitlines() if not line.lstrip().startswith("#"))
        keys: dict[str, bytes] = {}
        for part in re.split(r"[\s,]+", "\n".join(lines)):
            if not part:
                continue
            key_id, _, encoded = part.partition(":")
            # A part may be a key without its id, so that it is told by its number alone.
            where = f"encryption: key {len(keys) + 1}"
            if not _KEY_ID.fullmatch(key_id):
                raise ConfigurationError(f"{where} is not of the form ID:BASE64")
            if key_id in keys:
                raise ConfigurationError(f"encryption: the key {key_id!r} is there twice")
            try:
                keys[key_id] = b64decode(encoded.replace("-", "+").replace("_", "/"), validate=True)
            except (Base64Error, ValueError):
                raise ConfigurationError(f"{where} is not of the form ID:BASE64") from None
        if not keys:
            raise ConfigurationError("encryption: there is no key")
        current = next(iter(keys))
        return cls(keys, current=current, cache_size=cache_size, accepts_plain=accepts_plain)

    @classmethod
    def from_environment(
        cls,
        variable: str = KEYS_VARIABLE,
        *,
        cache_size: int = CACHE_SIZE,
        accepts_plain: bool = True,
    ) -> "Keyring":
        """Return the keyring of an environment variable, in the form of `from_text`.

        Raises:
            ConfigurationError: the variable is not set, or has another form.
        """
        text = os.environ.get(variable)
        if text is None:
            raise ConfigurationError(f"encryption: the environment has no variable {variable}")
        return cls.from_text(text, cache_size=cache_size, accepts_plain=accepts_plain)

    @classmethod
    def from_file(
        cls,
        path: str | os.PathLike[str],
        *,
        cache_size: int = CACHE_SIZE,
        accepts_plain: bool = True,
    ) -> "Keyring":
        """Return the keyring of a file, in the form of `from_text`.

        A file that users outside of its group can read is warned of, and not refused: in a
        container, secrets are often mounted like that.

        Raises:
            ConfigurationError: the file cannot be read, or has another form.
        """
        file = Path(path)
        try:
            text = file.read_text(encoding="utf-8")
            mode = file.stat().st_mode
        except (OSError, UnicodeDecodeError) as exc:
            raise ConfigurationError(
                f"encryption: the file of keys {file} cannot be read ({type(exc).__name__})"
            ) from None
        if os.name == "posix" and mode & stat.S_IROTH:
            logger.warning("every user of this machine can read the file of keys %s", file)
        return cls.from_text(text, cache_size=cache_size, accepts_plain=accepts_plain)

    def new_data_key(self, owner: str, session_id: str) -> "tuple[str, DataKey]":
        """Return a new data key of a session, wrapped and as it is."""
        key = os.urandom(KEY_BYTES)
        return self._wrap(key, owner, session_id), DataKey(self._cipher(key))

    def unwrap(self, wrapped: str, owner: str, session_id: str) -> "DataKey":
        """Return the data key that is stored as ``wrapped``.

        Raises:
            StoreMisconfigured: the keyring does not have the master key.
            StoreUnavailable: the callable failed.
            NotAuthentic: it was changed, or is another session's or owner's.
        """
        return DataKey(self._cipher(self._unwrap(wrapped, owner, session_id)))

    def rewrap(self, wrapped: str, source: tuple[str, str], target: tuple[str, str]) -> str:
        """Return a data key wrapped by the current master key, for another owner and session too.

        ``source`` and ``target`` are owners and session ids. Raises as `unwrap`.
        """
        return self._wrap(self._unwrap(wrapped, *source), *target)

    def is_current(self, wrapped: str) -> bool:
        """Tell whether the current master key has wrapped a data key."""
        return wrapped.startswith(f"{self.current}.")

    def warn_of(self, missing: UnknownMasterKey) -> None:
        """Log once for each master key that sessions are listed without what it opens."""
        if missing.key_id not in self._warned:
            self._warned.add(missing.key_id)
            logger.warning("sessions are listed without titles: %s", missing)

    def __repr__(self) -> str:
        """Return the ids, and no key."""
        ids = ", ".join(sorted(self._ciphers))
        return f"<Keyring current={self.current!r} keys=[{ids}]>"

    def __getstate__(self) -> object:
        """Refuse to be pickled, which would write the keys."""
        raise TypeError("a Keyring is not pickled: it has keys")

    def _wrap(self, key: bytes, owner: str, session_id: str) -> str:
        nonce = os.urandom(_NONCE)
        place = _place_of_key(self.current, owner, session_id)
        sealed = nonce + self._master(self.current).encrypt(nonce, key, place)
        return f"{self.current}.{b2a_base64(sealed, newline=False).decode()}"

    def _unwrap(self, wrapped: str, owner: str, session_id: str) -> bytes:
        key_id, _, encoded = wrapped.partition(".")
        if not _KEY_ID.fullmatch(key_id):
            raise NotAuthentic("a session's data key is not one: restore it from a backup")
        master = self._master(key_id)
        try:
            sealed = a2b_base64(encoded)
            return master.decrypt(
                sealed[:_NONCE], sealed[_NONCE:], _place_of_key(key_id, owner, session_id)
            )
        except Exception:  # noqa: BLE001  # InvalidTag, or what a text of another form leads to
            raise NotAuthentic(
                "a session's data key cannot be unwrapped: it was changed or moved, or the master "
                f"key {key_id!r} is another one than it was"
            ) from None

    def _master(self, key_id: str) -> "AESGCM":
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            if self._fetch is None:
                raise UnknownMasterKey(key_id)
            try:
                key = self._fetch(key_id)
            except LookupError:
                raise UnknownMasterKey(key_id) from None
            except Exception as exc:  # noqa: BLE001  # the application's own code
                # Its text may have what it asked with.
                raise StoreUnavailable(
                    f"the master key {key_id!r} could not be had ({type(exc).__name__})"
                ) from None
            cipher = self._ciphers[key_id] = self._cipher(_checked_key(key_id, key))
        return cipher


class DataKey:
    """A session's data key, which encrypts its texts (*seals*), and decrypts them (*opens*)."""

    __slots__ = ("_cipher",)

    def __init__(self, cipher: "AESGCM") -> None:
        self._cipher = cipher

    def seal(self, content: T, place: str) -> T:
        """Return a text, or bytes, encrypted for a place."""
        nonce = os.urandom(_NONCE)
        if isinstance(content, bytes):
            return SEALED_BYTES + nonce + self._cipher.encrypt(nonce, content, place.encode())
        sealed = nonce + self._cipher.encrypt(nonce, content.encode(), place.encode())
        return ENCRYPTED + b2a_base64(sealed, newline=False).decode()

    def open_each(self, sealed: Iterable[str], kind: str, first: int) -> list[str]:
        """Return texts of one kind that are numbered from ``first``; some may be plain.

        Raises:
            NotAuthentic: one was changed or moved.
        """
        decrypt, beginning = self._cipher.decrypt, f"{kind}\0".encode()
        opened = []
        try:
            for number, text in enumerate(sealed, first):
                if text.startswith(ENCRYPTED):
                    raw = a2b_base64(text[4:])
                    plain = decrypt(raw[:_NONCE], raw[_NONCE:], b"%b%d" % (beginning, number))
                    opened.append(plain.decode())
                else:
                    opened.append(text)
        except Exception:  # noqa: BLE001  # as `open`
            raise _not_authentic() from None
        return opened

    def open(self, sealed: T, place: str) -> T:
        """Return what was encrypted for a place; ``NotAuthentic`` for anything else."""
        try:
            if isinstance(sealed, bytes):
                return self._cipher.decrypt(sealed[4:16], sealed[16:], place.encode())
            raw = a2b_base64(sealed[4:])
            return self._cipher.decrypt(raw[:_NONCE], raw[_NONCE:], place.encode()).decode()
        except Exception:  # noqa: BLE001  # InvalidTag, or what a text of another form leads to
            raise _not_authentic() from None


def generate_key() -> bytes:
    """Return a new master key: 32 random bytes."""
    return os.urandom(KEY_BYTES)


def _place_of_key(key_id: str, owner: str, session_id: str) -> bytes:
    # No id can hold NUL, so that two places are never the same bytes.
    return "\0".join(("hermes_session_mw data key 1", key_id, owner, session_id)).encode()


def _checked_id(key_id: object) -> str:
    if not isinstance(key_id, str) or not _KEY_ID.fullmatch(key_id):
        raise ConfigurationError(
            f"encryption: {key_id!r} is no id of a key: it has 1 to {MAX_KEY_ID} letters, digits, "
            "hyphens and underscores, of ASCII"
        )
    return key_id


def _checked_key(key_id: str, key: object) -> bytes:
    if not isinstance(key, bytes) or len(key) != KEY_BYTES:
        what = f"{len(key)} bytes" if isinstance(key, bytes) else f"a {type(key).__name__}"
        raise ConfigurationError(
            f"encryption: the key {key_id!r} is {what}, not {KEY_BYTES} random bytes, as of "
            "hermes_session_mw.generate_key()"
        )
    return key


def _cipher_class() -> "type[AESGCM]":
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415  # an extra
    except ImportError:
        raise ConfigurationError(
            "encryption: cryptography is missing: pip install 'hermes_session_mw[encryption]'"
        ) from None
    return AESGCM


def _not_authentic() -> NotAuthentic:
    return NotAuthentic(
        "what is stored of a session cannot be decrypted: it was changed, or moved from another "
        "place; hermes-sessions check names it"
    )


def refused_plain() -> NotAuthentic:
    """Return the error for plain content where a keyring accepts none."""
    return NotAuthentic(
        "content is stored plain, which the keyring does not accept: if a process without keys "
        "wrote it, run hermes-sessions encrypt; else somebody changed the database"
    )
