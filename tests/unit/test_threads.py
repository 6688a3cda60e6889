from __future__ import annotations

import ast
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from gateway.threads import current_role, new_thread, run_in_pool, runs_on

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]


@runs_on("sip")
def on_sip() -> str:
    return "done"


@runs_on("clock", foreign=True)
def tick() -> str:
    return current_role()


def without_a_role(work: object) -> None:
    thread = threading.Thread(target=work)  # type: ignore[arg-type]
    thread.start()
    thread.join()


def test_a_function_called_on_the_wrong_thread_is_refused() -> None:
    with pytest.raises(RuntimeError, match=r"on_sip runs on 'sip', called on 'loop'"):
        on_sip()
    with pytest.raises(RuntimeError, match=r"tick runs on 'clock', called on 'loop'"):
        tick()


def test_a_thread_without_a_role_is_refused_where_one_is_asked_for() -> None:
    refused = []

    def work() -> None:
        for ask in (current_role, on_sip):
            try:
                ask()
            except RuntimeError as error:
                refused.append(str(error))

    thread = threading.Thread(target=work, name="stranger")
    thread.start()
    thread.join()
    assert refused == ["thread 'stranger' has no role"] * 2


def test_a_thread_of_the_library_takes_its_role_with_its_first_call() -> None:
    seen: list[str] = []
    without_a_role(lambda: seen.extend((tick(), current_role())))
    assert seen == ["clock", "clock"]


async def test_our_threads_have_the_role_they_are_made_with() -> None:
    seen: list[str] = []
    thread = new_thread("sip", lambda: seen.extend((current_role(), on_sip())))
    thread.start()
    thread.join()
    seen.append(await run_in_pool(current_role))
    assert (thread.name, seen) == ("sip", ["sip", "done", "pool"])
    assert current_role() == "loop"


IN_A_NORMAL_RUN = """
import importlib, pkgutil, sys
import gateway, gateway.threads as threads

WRAPPER = threads._checked(lambda: None, "loop", False).__code__

def marked():
    for module in [m for name, m in sys.modules.items() if name.startswith("gateway.")]:
        for owner in (module, *(each for each in vars(module).values() if isinstance(each, type))):
            if getattr(owner, "__module__", module.__name__) != module.__name__:
                continue
            for name, function in vars(owner).items():
                if getattr(function, "__module__", None) == module.__name__ and hasattr(function, "__runs_on__"):
                    yield f"{module.__name__}:{getattr(owner, '__qualname__', '')}.{name}", function

for module in pkgutil.walk_packages(gateway.__path__, "gateway."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
before = dict(marked())
print(len(before), sum(function.__code__ is WRAPPER for function in before.values()))
threads.check_threads()
after = dict(marked())
print(len(after), sum(function.__code__ is WRAPPER for function in after.values()))
from gateway.audio.uplink import UplinkTap
try:
    UplinkTap(capacity_frames=1).read()
except RuntimeError as error:
    print(error)
"""


def test_nothing_is_wrapped_unless_checks_are_on_and_everything_marked_is_then() -> None:
    done = subprocess.run([sys.executable, "-c", IN_A_NORMAL_RUN], cwd=ROOT, capture_output=True, text=True, check=True)
    before, after, refused = done.stdout.splitlines()
    marked, wrapped = map(int, before.split())
    assert marked > 60
    assert wrapped == 0
    assert after == f"{marked} {marked}"
    assert refused == "thread 'MainThread' has no role"


def test_threads_are_made_in_one_place() -> None:
    makers = {"Thread", "to_thread", "run_in_executor", "ThreadPoolExecutor", "start_new_thread", "Timer"}
    for path in sorted((ROOT / "gateway").rglob("*.py")):
        if path.relative_to(ROOT / "gateway").as_posix() == "threads.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = node.func if isinstance(node, ast.Call) else None
            name = getattr(called, "attr", getattr(called, "id", None))
            assert name not in makers, f"{path}:{called.lineno if called else 0} makes a thread without a role"
