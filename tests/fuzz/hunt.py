"""Finds what fells the target: plays cases, and when it falls looks for the shortest case that fells it again."""

from __future__ import annotations

import re
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from tests.fuzz.case import Case, Step
from tests.fuzz.play import Fallen, Player, Target

T = TypeVar("T")
OPTIONS_EVERY, CALL_EVERY = 50, 250
REMEMBERED = 80
MOST_TRIALS = 250
MOST_FALLS = 25  # then it is time to mend
SETTLE_S = (0.3, 2.6)  # most fall at once, some when a timer of the target or of its stand-in runs out


@dataclass(frozen=True, slots=True)
class Finding:
    """What fells the target, and how: ``cause`` tells it from other findings."""

    cause: str
    srtp: str
    case: Case
    alone: bool
    log: str


@dataclass(slots=True)
class Tally:
    """What was done so far."""

    cases: int = 0
    falls: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    names_asked: Counter[str] = field(default_factory=Counter)
    raised: dict[str, str] = field(default_factory=dict)
    first_rss_mb: float = 0.0
    last_rss_mb: float = 0.0


class Hunt:
    """
    Plays cases against one target after another.

    Args:
        srtp: of the target.
        folder: for its log.
        keep: takes each finding, reduced to the shortest case that does it; None leaves them as they were played.
    """

    def __init__(self, srtp: str, folder: Path, keep: Callable[[Finding], str] | None = None) -> None:
        self._srtp = srtp
        self._log = folder / f"target-{srtp}.log"
        self._keep = keep
        self._settle_s = SETTLE_S[0]
        self.tally = Tally()

    def run(self, cases: Iterable[Case], tell: Callable[[str], None] = lambda _line: None) -> Tally:
        """Play all of them, with a new target after each fall."""
        source = iter(cases)
        more = True
        while more and sum(self.tally.falls.values()) < MOST_FALLS:
            last: deque[Case] = deque(maxlen=REMEMBERED)
            with Target(self._srtp, self._log) as target:
                player = Player(target)
                try:
                    more = self._play_on(player, source, last, tell)
                except Fallen as fallen:
                    cause = str(fallen)
                    target.abort()
                finally:
                    self._look_at(target)
                    player.close()
            if more:
                self._note(cause, list(last), tell)
        return self.tally

    def _play_on(self, player: Player, source: Iterable[Case], last: deque[Case], tell: Callable[[str], None]) -> bool:
        tally = self.tally
        player.check_health(call=True)
        tally.first_rss_mb = tally.first_rss_mb or player.target.rss_mb()
        for case in source:
            last.append(case)
            player.play(case)
            tally.cases += 1
            if tally.cases % OPTIONS_EVERY == 0:
                player.check_health(call=tally.cases % CALL_EVERY == 0)
            if tally.cases % 1000 == 0:
                self._look_at(player.target)
                tell(f"{tally.cases} cases, {sum(tally.falls.values())} falls, {tally.last_rss_mb:.1f} MB")
        player.check_health(call=True)
        return False

    def _look_at(self, target: Target) -> None:
        """Note what the target said and takes."""
        self.tally.names_asked.update(target.asked())
        if target.process.poll() is None:
            self.tally.last_rss_mb = target.rss_mb()
        for trace in re.findall(
            r"Traceback \(most.*?\n(?=\S*Error|\S*Exception|\S)[^\n]*", self._log.read_text(errors="replace"), re.DOTALL
        ):
            lines = trace.splitlines()
            self.tally.raised.setdefault(f"{lines[-1]} {lines[-3].strip() if len(lines) > 2 else ''}", trace)

    def _note(self, cause: str, last: Sequence[Case], tell: Callable[[str], None]) -> None:
        self.tally.falls[cause] += 1
        tell(f"fallen after {self.tally.cases} cases: {cause}")
        log = self._log.read_text(encoding="utf-8", errors="replace")[-4000:]
        if self.tally.falls[cause] > 1:
            return
        case, alone = (last or (Case("start", ()),))[-1], False
        if self._keep is not None and last:
            case, alone = self.shortest(cause, last)
        finding = Finding(cause, self._srtp, case, alone, log)
        self.tally.findings.append(finding)
        if self._keep is not None:
            tell(f"  {len(case.steps)} steps, kept as {self._keep(finding)}")

    # --- the shortest case ---

    def shortest(self, cause: str, last: Sequence[Case]) -> tuple[Case, bool]:
        """Return the shortest case found that ends so, and whether it does when it is played alone."""
        for self._settle_s in SETTLE_S:
            for case in list(last)[:-9:-1]:  # the newest first; a slow one may have fallen a little late
                if self._fells(case, cause):
                    return self._shorter(case, cause), True
        whole = Case(f"{last[-1].name}-all", tuple(step for case in list(last)[-8:] for step in case.steps))
        if self._fells(whole, cause):
            return self._shorter(whole, cause), True
        return last[-1], False

    def _fells(self, case: Case, cause: str) -> bool:
        with Target(self._srtp, self._log) as target:
            player = Player(target)
            try:
                player.play(case)
                time.sleep(self._settle_s)
                player.check_health(call="honest call" in cause)
            except Fallen as fallen:
                return str(fallen) == cause
            finally:
                player.close()
        return False

    def _shorter(self, case: Case, cause: str) -> Case:
        trials = MOST_TRIALS

        def fells(steps: Sequence[Step]) -> bool:
            nonlocal trials
            trials -= 1
            return trials > 0 and self._fells(replace(case, steps=tuple(steps)), cause)

        steps = without(case.steps, fells)
        for number, step in enumerate(steps):
            if step.kind in ("send", "ask", "reply", "write"):
                before, after = steps[:number], steps[number + 1 :]

                def fells_with(lines: Sequence[bytes], b=before, s=step, a=after) -> bool:  # type: ignore[no-untyped-def]
                    return fells((*b, replace(s, data=b"".join(lines)), *a))

                kept = without(step.data.splitlines(keepends=True), fells_with)
                steps = (*before, replace(step, data=b"".join(kept)), *after)
        return replace(case, steps=tuple(steps))


def without(parts: Sequence[T], still: Callable[[Sequence[T]], bool]) -> tuple[T, ...]:
    """Leave out parts, in stretches that get shorter, as long as what is left is ``still`` right."""
    kept = tuple(parts)
    size = max(1, len(kept) // 2)
    while size:
        at = len(kept) - size
        while at >= 0:
            fewer = kept[:at] + kept[at + size :]
            if fewer and still(fewer):
                kept = fewer
            at -= size
        size //= 2
    return kept


def scratch() -> tempfile.TemporaryDirectory[str]:
    """Return a folder for what need not be kept."""
    return tempfile.TemporaryDirectory(prefix="fuzz-")
