"""
The fuzzer by hand: ``python -m tests.fuzz --cases 100000``, or ``make fuzz ARGS=...``.

Each finding is put into the corpus, which ``make test`` plays: the case as ``NAME.raw``, what it did as ``NAME.txt``.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
import time
from pathlib import Path

from tests.fuzz.case import parse_case
from tests.fuzz.hunt import Finding, Hunt, Tally, scratch
from tests.fuzz.modes import MODES, case_of

CORPUS = Path(__file__).parent / "corpus"


def main() -> None:
    given = _arguments()
    failed = False
    with scratch() as folder:
        for srtp in given.srtp:
            if given.play:
                cases = [parse_case(path.stem, path.read_bytes()) for path in given.play]
                failed |= _report("play", srtp, Hunt(srtp, Path(folder)).run(cases, _tell), 0.0)
                continue
            for mode in given.modes:
                started = time.monotonic()
                numbers = range(given.first, given.first + given.cases)
                made = (case_of(mode, given.seed, number) for number in numbers)
                _tell(f"{mode}, SRTP {srtp}, seed {given.seed}")
                tally = Hunt(srtp, Path(folder), lambda finding: _keep(finding, given.corpus)).run(made, _tell)
                failed |= _report(mode, srtp, tally, time.monotonic() - started)
    sys.exit(failed)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Send what nobody thought of.")
    parser.add_argument("--cases", type=int, default=5000, help="of each mode and each SRTP policy")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--srtp", nargs="+", choices=("off", "optional"), default=["off", "optional"])
    parser.add_argument("--play", nargs="+", type=Path, help="play these files instead")
    parser.add_argument("--corpus", type=Path, default=CORPUS, help="where findings are put")
    return parser.parse_args()


def _report(mode: str, srtp: str, tally: Tally, seconds: float) -> bool:
    falls = ", ".join(f"{count} x {cause}" for cause, count in tally.falls.most_common()) or "none"
    memory = f"{tally.first_rss_mb:.1f} -> {tally.last_rss_mb:.1f} MB"
    _tell(f"== {mode}, SRTP {srtp}: {tally.cases} cases in {seconds:.0f} s; {memory}; falls: {falls}")
    for name, count in tally.names_asked.most_common(3):
        _tell(f"   would look up {name} ({count} times); {len(tally.names_asked)} names")
    for line in tally.raised:
        _tell(f"   raised: {line}")
    return bool(tally.falls)


def _keep(finding: Finding, folder: Path) -> str:
    """Put a finding into the corpus, unless one of the same cause is there."""
    cause = re.sub(r"[^\w.]+", "-", finding.cause).strip("-").lower()
    known = {path.name for path in folder.glob("*.raw")}
    name = f"{cause}-{hashlib.sha256(finding.case.as_bytes()).hexdigest()[:6]}"
    if any(each.startswith(cause) for each in known):
        return f"nothing: {cause} is there already"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.raw").write_bytes(finding.case.as_bytes())
    alone = "" if finding.alone else " It did not do so again when it was played alone."
    told = f"{finding.cause}\nSRTP {finding.srtp}, {finding.case.name}.{alone}\n\n{finding.log}\n"
    (folder / f"{name}.txt").write_text(told, encoding="utf-8")
    return name


def _tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
