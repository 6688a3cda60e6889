"""A package with tools, installed for one test."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from gateway.tools.plugin import load_plugin

MODULE = "shop_tools_of_a_test"
SOURCE = """
import asyncio
import sys
import threading

from gateway.tools.plugin import tool

ORDER = {"type": "object", "properties": {"number": {"type": "integer"}}, "required": ["number"]}
released = threading.Event()
stopped = []


@tool(description="Look an order up.", parameters=ORDER)
async def order(arguments, call):
    return {"number": arguments["number"], "call": call.call_id, "from": call.facts.get("from")}


@tool(description="Say on which thread it runs.")
def thread(arguments, call):
    return threading.current_thread().name


@tool(description="Raise an error.")
async def broken(arguments, call):
    raise KeyError("very-secret")


@tool(description="Raise an error in a thread.")
def broken_thread(arguments, call):
    raise StopIteration("very-secret")


@tool(description="Ask the process to end.")
async def leave(arguments, call):
    sys.exit(3)


@tool(description="Ask the process to end, in a thread.")
def leave_thread(arguments, call):
    sys.exit(3)


@tool(description="Wait for ever.")
async def endless(arguments, call):
    try:
        await asyncio.Event().wait()
    finally:
        stopped.append(call.call_id)


@tool(description="Wait until it is let go.")
def stuck(arguments, call):
    released.wait(10)


@tool(description="Return what JSON cannot say.")
async def odd(arguments, call):
    return {"odd": object()}


@tool(description="Has a schema that is none.", parameters={"type": "object", "properties": {"a": {"type": "text"}}})
async def wrong_schema(arguments, call):
    return None


@tool(description="Has a schema of Python's own.", parameters={"type": "object", "properties": {"a": {"enum": {1}}}})
async def no_json(arguments, call):
    return None


@tool(description="Half a letter: \\ud83d")
async def half_a_letter(arguments, call):
    return None


async def unmarked(arguments, call):
    return None
"""
NAMES = (
    *("order", "thread", "broken", "broken_thread", "leave", "leave_thread"),
    *("endless", "stuck", "odd", "wrong_schema", "no_json", "half_a_letter", "unmarked"),
)


def install_plugins(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write a package with entry points into ``folder`` and put that on the path of this test."""
    (folder / f"{MODULE}.py").write_text(SOURCE)
    info = folder / "shop_tools-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shop-tools\nVersion: 1.0\n")
    lines = [f"{name} = {MODULE}:{name}" for name in NAMES]
    lines += ["missing = no_such_module:f", f"lost = {MODULE}:no_such_function"]
    (folder / f"{MODULE}_broken.py").write_text("1 / 0\n")
    lines += [f"faulty = {MODULE}_broken:f"]
    (info / "entry_points.txt").write_text("[gateway.tools]\n" + "\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    importlib.invalidate_caches()
    load_plugin.cache_clear()
