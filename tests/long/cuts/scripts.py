"""What the model says: a text that follows from the name of the call alone.

The application and the checker read it here, so that the checker knows every piece of every answer
without having seen one.
"""

import random
from dataclasses import dataclass

# What a line, a cursor or a frame of events could be confused by, and letters of several bytes.
_WORDS = (
    *("one ", "two ", "three ", "four ", "a longer word ", "\n", "\n\n", "\r\n", "\r"),
    *("data: ", "id: 7\n", "event: end\n\n", ": keepalive\n\n", '"', "\\", "{", "}", "[DONE]"),
    *("größer ", "naïve ", "日本語", "\u2028", "👍🏽", "𝄞", "e\u0301", "\ufeff", "\x7f", "\t"),
)


@dataclass(frozen=True)
class Script:
    """An answer, as the model gives it.

    Attributes:
        pieces: its texts, none empty, in order; the first one has the call's name.
        pauses: the seconds before each of them.
        fails: whether the model raises after the last one.
    """

    pieces: list[str]
    pauses: list[float]
    fails: bool

    @property
    def text(self) -> str:
        """The whole answer."""
        return "".join(self.pieces)


def script_of(call: str) -> Script:
    """Return what the model says in the call with this name."""
    rng = random.Random(call)
    count = rng.randint(3, 40)
    pieces = [f"({call}) "]
    pieces += ["".join(rng.choices(_WORDS, k=rng.randint(1, 3))) for _ in range(count - 1)]
    pauses = [_pause(rng) for _ in pieces]
    if rng.random() < 0.04:  # it thinks, until the lease has been renewed
        pauses[rng.randrange(count)] = 2.5
    return Script(pieces, pauses, fails=rng.random() < 0.03)


def _pause(rng: random.Random) -> float:
    return 0.0 if rng.random() < 0.2 else rng.uniform(0.01, 0.15)
