"""Echo: the caller's audio comes back at once, as one long response."""

from __future__ import annotations

import base64

from gateway.lab.simulator.agent.output import MessageOutput
from gateway.lab.simulator.agent.response import SimulatedResponse
from gateway.lab.simulator.wire.audio_formats import Converter


class Echo:
    """Sends audio back through a response, in the response's own format."""

    def __init__(self) -> None:
        self._formats = ("", "")
        self._converter: Converter | None = None
        self._message: MessageOutput | None = None

    def send_back(self, response: SimulatedResponse, encoded: str, audio: bytes, input_type: str) -> None:
        """
        Return one append.

        Args:
            response: active; its item is announced with the first audio. One of text gets nothing.
            encoded: base64 of ``audio`` as the client sent it; goes back as it is where the formats agree.
            audio: bytes in the input format.
            input_type: the input's format type.
        """
        if response.plan.modality != "audio":
            return
        if self._message is None or not self._message.is_open:
            self._message = response.open_message()
        formats = (input_type, response.plan.format_type)
        if formats != self._formats:
            self._formats = formats
            self._converter = Converter(*formats) if input_type != response.plan.format_type else None
        if self._converter is None:
            self._message.send_audio(encoded, audio)
            return
        audio = self._converter.process(audio)
        if audio:
            self._message.send_audio(base64.b64encode(audio).decode("ascii"), audio)
