"""What TensorRT says while it parses and builds: kept, cleaned of noise, and read when a build has failed.

TensorRT's logger is one a process: the first that lives wins, and any other is silently ignored. So there is
one for each library here, made once and never dropped, and its messages are cleared before each build.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from tledge.runtime import machine

SEVERITIES = ("internal error", "error", "warning", "info", "verbose")
LAYERS = "Layers:\n"  # the head of the list of layers, in a verbose message
# On a machine without a driver each API error is followed by one about the driver.
NO_DRIVER = re.compile(r"cudaError\w* ?35|CUDA driver version is insufficient|cudaErrorInsufficientDriver")
# What stands around the words that matter: the function, the kind of error, the line of TensorRT's sources.
WRAPPED = re.compile(r"Error Code \d+: ([\w ]+?) ?\((.*?)\.? ?(?:In [\w:~<>]+ at [^)]*)\)\Z", re.S)
PLACE = re.compile(r"^\[[^\]]*\.(?:cpp|cu|h)[^\]]*\] ", re.M)
# Whatever was asked for, in each release's words: there was not so much memory.
MEMORY = re.compile(
    r"OutOfMemory|out of memory|insufficient memory|within workspace limit|cudaErrorMemoryAllocation", re.I
)
ASSERTION = re.compile(r'&& "(.+?)"|Assertion failed: [^:]*: (.+)', re.S)


@dataclass
class Messages:
    """The messages of one library in this process, oldest first, as (severity, text)."""

    entries: list[tuple[str, str]] = field(default_factory=list)

    def errors(self) -> list[str]:
        """Return what was wrong, each thing once, without the noise that a missing driver makes."""
        return self._of("internal error", "error")

    def warnings(self) -> list[str]:
        """Return the warnings, each once."""
        return self._of("warning")

    def find(self, pattern: str) -> re.Match[str] | None:
        """Return the last match of the regular expression in any message, or None."""
        for _, text in reversed(self.entries):
            if found := re.search(pattern, text):
                return found
        return None

    def _of(self, *severities: str) -> list[str]:
        texts = [tidy(text) for severity, text in self.entries if severity in severities]
        return list(dict.fromkeys(text for text in texts if text))


def tidy(text: str) -> str:
    """Return the words of a message that a user can do something with; "" if there are none.

    Taken away are the places in TensorRT's own sources, the conditions of its assertions, and, on a machine
    without a driver, the lines that only say so.
    """
    lines = text.strip().splitlines()
    if machine.cuda().reason:
        lines = [line for line in lines if not NO_DRIVER.search(line)]
    text = PLACE.sub("", "\n".join(lines)).strip()
    if wrapped := WRAPPED.search(text):
        return f"{wrapped[2].strip()}" if wrapped[2].strip() else wrapped[1]
    if assertion := ASSERTION.search(text):
        return (assertion[1] or assertion[2]).strip().rstrip(".")
    return "" if text in ("false", "true") else text


@cache
def logger(module: Any) -> tuple[Any, Messages]:
    """Return the one logger of the library `module`, to give to its builder and parser, and its messages."""
    messages = Messages()

    class Collector(module.ILogger):  # type: ignore[misc]
        """Keeps all but the chatter: of the verbose messages, which time every tactic, the list of layers."""

        def __init__(self) -> None:
            module.ILogger.__init__(self)

        def log(self, severity: Any, text: str) -> None:
            name = SEVERITIES[int(severity)]
            if name != "verbose" or LAYERS in text:
                messages.entries.append((name, text))

    return Collector(), messages
