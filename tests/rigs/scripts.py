"""What agents of the simulator do in a call, and the profile of one who may transfer."""

from __future__ import annotations

from gateway.lab.simulator import Script, SimulatorOptions

BACK: list[dict[str, object]] = [{"say": "I am here again.", "for_s": 1.0}, {"call": "hang_up"}]
"""What the agent does whose caller is still there: say so, and end the call."""


def scripted(*outputs: list[dict[str, object]], over: str = "connection") -> SimulatorOptions:
    answers = [{"output": output} for output in outputs]
    return SimulatorOptions(script=Script.model_validate({"answers": answers, "over": over}))


def desk(port: int, *, warm: bool = False) -> str:
    """A profile whose agent may transfer to somebody at ``port``."""
    target = f"{{uri: 'sip:desk@127.0.0.1:{port}', warm: {str(warm).lower()}}}"
    return f"tools: {{builtin: [transfer_call, hang_up], transfer_targets: {{desk: {target}}}}}"
