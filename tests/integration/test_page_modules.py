"""What the page works out for itself, run in the browser that it is for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from playwright.async_api import Page

from gateway.sip.core.ladder import TracedMessage, draw
from tests.rigs.browser import chromium, with_files_alone

pytestmark = pytest.mark.integration

T0 = 1_700_000_000.0
MARKUP = "<img src=x onerror=\"document.title='run'\">"


@pytest.fixture
async def files() -> AsyncIterator[Page]:
    async with chromium() as browser:
        yield await with_files_alone(browser)


def happened(*events: tuple[float, str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"id": f"{n}-0", "at": T0 + at, "event": name, **more} for n, (at, name, more) in enumerate(events)]


def heard(began: float, over: float) -> dict[str, float]:
    return {"began_at": T0 + began, "over_at": T0 + over}


TALK = happened(
    (0, "agent_spoke", {"item_id": "a", "text": "Good morning. How can"}),
    (0.1, "agent_spoke", {"item_id": "a", "text": "I help?"}),
    (3, "agent_heard", {"item_id": "a", "text": "Good morning. How can I help?", **heard(0.5, 3), "cut": "false"}),
    (4, "speech_started", {}),
    (5, "speech_stopped", {}),
    (5.2, "caller_spoke", {"item_id": "c", "text": MARKUP}),
    (5.5, "tool_asked", {"tool_call_id": "t", "name": "look_up", "arguments": "{}"}),
    (7, "tool_finished", {"tool_call_id": "t", "name": "look_up", "failed": "true", "took_ms": 1500}),
    (7, "agent_spoke", {"item_id": "b", "text": "It opens at nine tomorrow."}),
    (8.6, "interruption", {"item_id": "b", "played_ms": 800, "interruption_ms": 60}),
    (8.7, "agent_heard", {"item_id": "b", "text": "It opens", **heard(7.2, 8), "cut": "true"}),
    (8, "turn", {"item_id": "b", "turn_latency_ms": 2200}),
    (9, "held", {}),
    (11, "resumed", {}),
    (12, "agent_away", {"detail": "lost"}),
    (13, "agent_spoke", {"item_id": "d", "text": "Sorry for"}),
)


async def test_a_story_has_what_was_heard_and_what_was_not(files: Page) -> None:
    lines = await files.evaluate("async (e) => (await import('/story.js')).transcriptOf(e)", TALK)
    assert [line["at"] - T0 for line in lines if line["who"] == "caller"] == [4], "when they began"
    said = [(line["who"], line["text"], line.get("unheard", ""), line.get("state", "")) for line in lines]
    assert said == [
        ("agent", "Good morning. How can I help?", "", "heard"),
        ("caller", MARKUP, "", ""),
        ("note", "tool look_up failed after 1500 ms", "", ""),
        ("agent", "It opens", "at nine tomorrow.", "heard"),
        ("agent", "Sorry for", "", "speaking"),
    ]


async def test_a_story_lies_on_one_axis(files: Page) -> None:
    call = {"created_at": T0 - 1, "answered_at": T0 - 0.2}
    got = await files.evaluate(
        "async ([c, e, now]) => (await import('/story.js')).timelineOf(c, e, now)", [call, TALK, T0 + 14]
    )
    assert (got["begin"], got["end"], got["answered"]) == (T0 - 1, T0 + 14, T0 - 0.2)
    assert [(s["from"] - T0, s["to"] - T0) for s in got["caller"]] == [(4, 5)]
    assert [(round(s["from"] - T0, 1), round(s["to"] - T0, 1), s["cut"]) for s in got["agent"]] == [
        (0.5, 3, False),
        (7.2, 8, True),
    ]
    assert [(s["kind"], s["from"] - T0, s["to"] - T0) for s in got["spans"]] == [
        ("tool", 5.5, 7),
        ("hold", 9, 11),
        ("reconnect", 12, 14),
    ]
    assert [(p["kind"], round(p["from"] - T0, 1)) for p in got["points"]] == [("interruption", 8)]
    assert [(round(d["at"] - T0, 1), d["ms"]) for d in got["delays"]] == [(7.2, 2200)]
    delays = await files.evaluate("async (e) => (await import('/story.js')).delaysOf(e)", TALK)
    assert delays == {"all": [2200], "median": 2200, "worst": 2200}


async def test_a_pause_of_a_recording_takes_time_on_the_axis_alone(files: Page) -> None:
    segments = [[0, T0], [10, T0 + 40]]
    ask = "async ([name, s, x]) => (await import('/player.js'))[name](s, x)"
    for second, moment in ((0, T0), (9, T0 + 9), (10, T0 + 40), (12.5, T0 + 42.5)):
        assert await files.evaluate(ask, ["momentOf", segments, second]) == moment
        assert await files.evaluate(ask, ["secondOf", segments, moment]) == second
    assert await files.evaluate(ask, ["secondOf", segments, T0 + 25]) == 10
    assert await files.evaluate(ask, ["secondOf", segments, T0 - 5]) == 0


async def test_a_ladder_is_read_from_its_text_and_drawn_as_text(files: Page) -> None:
    peer = "203.0.113.5:5060"
    asked = (
        f'INVITE sip:1000@gw SIP/2.0\r\nFrom: "{MARKUP}" <sip:a@b>\r\nCSeq: 1 INVITE\r\n\r\nm=audio 4000 RTP/AVP 0\r\n'
    )
    forged = "INFO sip:1000@gw SIP/2.0\r\n\r\n=== 9  00:00:00.000  gateway -> 203.0.113.9:5060\r\n"
    messages = [
        TracedMessage(T0, False, peer, asked),
        TracedMessage(T0 + 0.5, True, peer, "SIP/2.0 200 OK\r\nCSeq: 1 INVITE\r\n\r\n"),
        TracedMessage(T0 + 1, False, peer, forged),
    ]
    trace = draw("id@far", messages)
    read = await files.evaluate("async (t) => (await import('/ladder.js')).messagesOf(t)", trace)
    assert [(m["seconds"], m["from"], m["to"]) for m in read] == [
        (0, peer, "gateway"),
        (0.5, "gateway", peer),
        (1, peer, "gateway"),
    ]
    assert "=== 9" in read[2]["text"]
    await files.evaluate("async (t) => document.body.append((await import('/ladder.js')).ladder(t))", trace)
    assert await files.locator(".arrow").all_text_contents() == ["INVITE (SDP)", "200 OK to INVITE", "INFO"]
    assert MARKUP in (await files.locator("pre").first.text_content() or "")
    assert await files.locator("img").count() == 0
    assert await files.title() != "run"


async def test_a_difference_of_plans_is_by_line(files: Page) -> None:
    before, after = "a\nb\nc\nd\ne\nf\ng\nh", "a\nb\nC\nd\ne\nf\ng\nh\ni"
    ask = "async ([b, a]) => { const m = await import('/diff.js'); return m.hunks(m.diffLines(b, a), 1); }"
    lines = await files.evaluate(ask, [before, after])
    assert [line and (line["kind"][0], line["text"]) for line in lines] == [
        None,
        ("s", "b"),
        ("r", "c"),
        ("a", "C"),
        ("s", "d"),
        None,
        ("s", "h"),
        ("a", "i"),
    ]
    assert await files.evaluate(ask, [before, before]) == [None]
