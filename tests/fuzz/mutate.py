"""Mutations of text and bytes. Pure: all chance comes from the ``random.Random`` that is handed in."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

Mutation = Callable[[random.Random, str], str]

NUMBERS = (
    *("0", "1", "-1", "2", "00", "007", "255", "256", "1024", "32767", "32768", "65535", "65536", "65540", "999999"),
    *(
        "2147483647",
        "2147483648",
        "4294967295",
        "4294967296",
        "18446744073709551616",
        "9" * 40,
        "1e9",
        "0x10",
        "1.5",
        "",
    ),
)
ODD = (
    *(
        '"',
        "\\",
        "<",
        ">",
        "<>",
        ";",
        ",",
        "=",
        ":",
        "@",
        "%",
        "%00",
        "%zz",
        "/",
        "?",
        "&",
        "(",
        ")",
        "[",
        "]",
        "[::1]",
        "*",
        "|",
    ),
    *(
        "\t",
        " ",
        "  ",
        "\0",
        "\x7f",
        "é",
        "\udcff",
        "\udcc3(",
        "\r",
        "\n",
        "\r\n",
        "\r\n ",
        "\r\n\t",
        "{}",
        "%s%n",
        "tag=x;tag=y",
    ),
)
SWAPS = (
    (" ", "\t"),
    (":", " "),
    (";", ","),
    ("=", ""),
    ("<", ""),
    (">", ""),
    ("\r\n", "\n"),
    ("/", "\\"),
    (" ", ""),
    (",", ";"),
)
COMPACT = {
    *(("Call-ID", "i"), ("Contact", "m"), ("Content-Length", "l"), ("Content-Type", "c"), ("From", "f"), ("To", "t")),
    *(("Via", "v"), ("Supported", "k"), ("Subject", "s"), ("Refer-To", "r"), ("Event", "o")),
}
_NUMBER = re.compile(r"\d+")
_TOKEN = re.compile(r"[^\s:;,=<>@/\"]+")


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True) or [""]


def delete_line(dice: random.Random, text: str) -> str:
    lines = _lines(text)
    del lines[dice.randrange(len(lines))]
    return "".join(lines)


def repeat_line(dice: random.Random, text: str) -> str:
    lines = _lines(text)
    at, times = dice.randrange(len(lines)), dice.choice((2, 2, 2, 3, 20, 70))
    lines[at : at + 1] = [lines[at]] * times
    return "".join(lines)


def move_line(dice: random.Random, text: str) -> str:
    lines = _lines(text)
    line = lines.pop(dice.randrange(len(lines)))
    lines.insert(dice.randrange(len(lines) + 1), line)
    return "".join(lines)


def swap_lines(dice: random.Random, text: str) -> str:
    lines = _lines(text)
    a, b = dice.randrange(len(lines)), dice.randrange(len(lines))
    lines[a], lines[b] = lines[b], lines[a]
    return "".join(lines)


def join_lines(dice: random.Random, text: str) -> str:
    ends = [found.start() for found in re.finditer(r"\r?\n", text)]
    at = dice.choice(ends) if ends else 0
    return text[:at] + dice.choice(("", " ", "\n", "\r", "\r\n ", "\0")) + text[at:].lstrip("\r\n")


def change_number(dice: random.Random, text: str) -> str:
    return _replace_one(dice, _NUMBER, text, lambda old: dice.choice((*NUMBERS, old + old, old[::-1])))


def change_token(dice: random.Random, text: str) -> str:
    others: list[str] = _TOKEN.findall(text) or [""]

    def change(old: str) -> str:
        how = dice.randrange(8)
        if how == 0:
            return ""
        if how == 1:
            return f"{old} {old}"
        if how == 2:
            return old * dice.choice((2, 16, 100, 400))
        if how == 3:
            return dice.choice((old.upper(), old.lower(), old.swapcase()))
        if how == 4:
            return dice.choice(others)
        if how == 5:
            return f'"{old}"'
        return old[: dice.randrange(len(old) + 1)] + dice.choice(ODD) + old[dice.randrange(len(old) + 1) :]

    return _replace_one(dice, _TOKEN, text, change)


def insert_odd(dice: random.Random, text: str) -> str:
    at = dice.randrange(len(text) + 1)
    return text[:at] + dice.choice(ODD) * dice.choice((1, 1, 1, 2, 50)) + text[at:]


def swap_separator(dice: random.Random, text: str) -> str:
    old, new = dice.choice(SWAPS)
    places = [found.start() for found in re.finditer(re.escape(old), text)]
    if not places:
        return text
    at = dice.choice(places)
    return text[:at] + new + text[at + len(old) :]


def compact_header(dice: random.Random, text: str) -> str:
    long, short = dice.choice(sorted(COMPACT))
    return text.replace(f"\n{long}:", f"\n{short}{dice.choice((':', ' :', ': '))}", dice.choice((1, -1)))


def cut(dice: random.Random, text: str) -> str:
    return text[: dice.randrange(len(text) + 1)]


def repeat_stretch(dice: random.Random, text: str) -> str:
    a = dice.randrange(len(text) + 1)
    b = min(len(text), a + dice.choice((1, 4, 16, 64, 300)))
    return text[:b] + text[a:b] * dice.choice((1, 2, 5, 30)) + text[b:]


def change_character(dice: random.Random, text: str) -> str:
    if not text:
        return text
    at = dice.randrange(len(text))
    flipped = ord(text[at]) % 128 ^ (1 << dice.randrange(7))
    return text[:at] + chr(dice.choice((flipped, dice.randrange(128)))) + text[at + 1 :]


def _replace_one(dice: random.Random, pattern: re.Pattern[str], text: str, change: Callable[[str], str]) -> str:
    found = list(pattern.finditer(text))
    if not found:
        return text
    place = dice.choice(found)
    return text[: place.start()] + change(place[0]) + text[place.end() :]


ANY_TEXT: tuple[Mutation, ...] = (
    *(
        delete_line,
        repeat_line,
        move_line,
        swap_lines,
        join_lines,
        change_number,
        change_number,
        change_token,
        change_token,
    ),
    *(insert_odd, swap_separator, compact_header, cut, repeat_stretch, change_character),
)


def insert_line(lines: Sequence[str], first: str = "") -> Mutation:
    """Return the mutation that puts one of these lines somewhere behind the line that begins with ``first``."""

    def insert(dice: random.Random, text: str) -> str:
        old = _lines(text)
        start = next((n for n, line in enumerate(old) if line.startswith(first)), 0)
        at = dice.randrange(start, len(old) + 1)
        old[at:at] = [dice.choice(lines).removesuffix("\r\n") + "\r\n"] * dice.choice((1, 1, 1, 1, 2, 20))
        return "".join(old)

    return insert


def mutate(dice: random.Random, text: str, mutations: Sequence[Mutation], most: int = 4) -> str:
    """Return ``text`` after one to ``most`` mutations."""
    for _ in range(dice.randint(1, most)):
        text = dice.choice(mutations)(dice, text)
    return text


def mutate_bytes(dice: random.Random, data: bytes) -> bytes:
    """Return ``data`` with bits flipped, bytes changed, stretches cut, repeated or put in."""
    changed = bytearray(data)
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(len(changed) + 1)
        how = dice.randrange(6)
        if how == 0:
            del changed[at:]
        elif how == 1:
            del changed[at : at + dice.choice((1, 2, 4, 12))]
        elif how == 2:
            changed[at:at] = dice.randbytes(dice.choice((1, 2, 4, 12, 160, 1400)))
        elif how == 3:
            changed[at:at] = changed[at : at + dice.choice((1, 4, 40))] * dice.choice((1, 3))
        elif at < len(changed):
            changed[at] = dice.choice((changed[at] ^ (1 << dice.randrange(8)), 0, 255, dice.randrange(256)))
    return bytes(changed)
