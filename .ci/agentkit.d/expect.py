"""Expectations: each is compared and counted, and one that does not hold is told in full."""

import datetime
import re
import sys
import threading
import time
import traceback

_lock = threading.Lock()
_held, _failed = 0, 0


class Unmet(Exception):
    """An expectation that what follows builds on did not hold."""


class Like:
    """Equals every value that a check takes."""

    def __init__(self, name, takes):
        self.name, self.takes = name, takes

    def __eq__(self, other):
        return bool(self.takes(other))

    def __repr__(self):
        return f"<{self.name}>"


def instant(text):
    """The time that a text as the server writes it names."""
    seconds, _, digits = text.rstrip("Z").partition(".")
    time_then = datetime.datetime.strptime(seconds, "%Y-%m-%dT%H:%M:%S")
    return time_then.replace(microsecond=int(digits.ljust(6, "0")), tzinfo=datetime.timezone.utc)


TEXT = Like("a text", lambda value: isinstance(value, str) and value)
ID = Like("an id", lambda value: isinstance(value, str)
          and re.fullmatch("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", value))
TIME = Like("a time with Z", lambda value: isinstance(value, str)
            and re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z", value))


def at(time_then):
    """The same time, however many digits it is written with."""
    return Like(f"the time {time_then.isoformat()}", lambda value: TIME == value and instant(value) == time_then)


def expect(asked, expected, got):
    """Whether `got` is what was to be expected of what was asked."""
    global _held, _failed
    holds = expected == got
    with _lock:
        _held, _failed = _held + holds, _failed + (not holds)
        if not holds:
            told = f"NOT AS EXPECTED: {asked}", f"expected {expected!r}", f"got      {got!r}"
            print("\n  ".join(part[:2000] for part in told), file=sys.stderr, flush=True)
    return holds


def need(asked, expected, got):
    """As `expect`, where nothing after it makes sense unless it holds."""
    if not expect(asked, expected, got):
        raise Unmet(asked)


def until(what, look, seconds=20):
    """What `look` gives, once it gives something."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if seen := look():
            return seen
        time.sleep(0.03)
    expect(what, f"within {seconds} s", f"not within {seconds} s")
    raise Unmet(what)


def scene(play, *arguments):
    """Plays one part; what goes wrong in it does not keep the next ones from being played."""
    try:
        play(*arguments)
    except Unmet as what:
        print(f"  the rest of {play.__module__} is left out: it needs \"{what}\"", file=sys.stderr, flush=True)
    except Exception:
        expect(f"{play.__module__} to its end", "no exception", traceback.format_exc())


def all_held(of):
    """Whether there is nothing to complain about, told in one line."""
    with _lock:
        wrong = f", {_failed} did not" if _failed else ""
        print(f"{of}: {_held} expectations held{wrong}", flush=True)
        return not _failed
