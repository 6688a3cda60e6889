from __future__ import annotations

import base64

import pytest

from gateway.lab.simulator.conversation.items import Item, SimulatedConversation
from gateway.lab.simulator.wire.schema import ClientMistake

pytestmark = pytest.mark.unit


def item(name: str) -> Item:
    return Item({"id": name, "type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]})


def speech(name: str, ms: float) -> Item:
    part = {"type": "output_audio", "transcript": "Hello."}
    wire = {"id": name, "type": "message", "role": "assistant", "content": [part]}
    return Item(wire, ms, is_agent_audio=True)


def order(conversation: SimulatedConversation) -> list[str]:
    names: list[str] = []
    name = conversation.last_id()
    while name is not None:
        names.insert(0, name)
        name = conversation.previous_id(name)
    return names


def test_items_are_inserted_where_the_client_asks() -> None:
    conversation = SimulatedConversation()
    for name, previous in (("a", None), ("b", None), ("first", "root"), ("middle", "a")):
        conversation.insert(item(name), previous)
    assert order(conversation) == ["first", "a", "middle", "b"]


def test_an_id_is_taken_once_and_the_item_before_must_exist() -> None:
    conversation = SimulatedConversation()
    conversation.insert(item("a"), None)
    with pytest.raises(ClientMistake, match="already exists"):
        conversation.insert(item("a"), None)
    with pytest.raises(ClientMistake) as caught:
        conversation.insert(item("b"), "nobody")
    assert caught.value.param == "previous_item_id"
    assert order(conversation) == ["a"]


def test_speech_is_truncated_within_its_audio_and_loses_its_text() -> None:
    conversation = SimulatedConversation()
    conversation.append(speech("a", 1000))
    conversation.truncate("a", 0, 1000)
    conversation.truncate("a", 0, 400)
    assert conversation.retrieve("a")["content"] == [{"type": "output_audio", "transcript": None}]
    with pytest.raises(ClientMistake, match="already shorter than 401ms") as caught:
        conversation.truncate("a", 0, 401)
    assert caught.value.code is None
    conversation.truncate("a", 0, 0)
    conversation.truncate("a", 0, 0)


def test_only_agent_speech_can_be_truncated() -> None:
    conversation = SimulatedConversation()
    conversation.append(item("typed"))
    conversation.append(speech("spoken", 1000))
    with pytest.raises(ClientMistake, match="Only model output audio") as caught:
        conversation.truncate("typed", 0, 0)
    assert caught.value.code is None
    with pytest.raises(ClientMistake) as caught:
        conversation.truncate("spoken", 1, 0)
    assert caught.value.param == "content_index"


def test_unknown_items_are_told_apart_by_what_was_asked() -> None:
    conversation = SimulatedConversation()
    codes = []
    for act in (
        lambda: conversation.delete("x"),
        lambda: conversation.retrieve("x"),
        lambda: conversation.truncate("x", 0, 0),
    ):
        with pytest.raises(ClientMistake) as caught:
            act()
        codes.append(caught.value.code)
    assert codes == [f"item_{verb}_invalid_item_id" for verb in ("delete", "retrieve", "truncate")]


def test_a_retrieved_caller_item_carries_its_audio() -> None:
    conversation = SimulatedConversation()
    part = {"type": "input_audio", "transcript": None}
    wire = {"id": "u", "type": "message", "role": "user", "content": [part]}
    conversation.append(Item(wire, 20, recording=lambda: b"\x01\x00" * 480))
    audio = conversation.retrieve("u")["content"][0]["audio"]
    assert base64.b64decode(audio) == b"\x01\x00" * 480
    assert "audio" not in part
    conversation.delete("u")
    assert conversation.find("u") is None
