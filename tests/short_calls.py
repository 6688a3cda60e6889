"""
Thousands of short calls against one worker: how its memory grows, and the longest gap in what callers hear.

``python -m tests.short_calls --calls 3000`` from the root of the project; ``make memory``. Ends with exit code 1 when
memory grew by more than ``MOST_GROWTH_MB`` after the first calls.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import socket
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from gateway.lab.gateway_process import GatewayProcess
from gateway.lab.measure import longest_gap_ms
from gateway.lab.rtp_peer import RtpPeer
from gateway.lab.simulator import Simulator, SimulatorOptions
from gateway.sessions.embedded import EmbeddedRedis
from tests.e2e.sipp import free_port
from tests.fuzz.material import request

MOST_GROWTH_MB = 10.0
CALLERS = 3
ANSWER_S = 20.0
SDP = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio {} RTP/AVP 0\r\n"
PLAN = "agents:\n  a: {instructions: Answer shortly., greeting: Say hello.}\nroutes:\n  - {name: any, agent: a}\n"


class Caller(asyncio.DatagramProtocol):
    """A telephone over UDP that makes one call after the other."""

    def __init__(self, port: int) -> None:
        self._gateway = ("127.0.0.1", port)
        self._answers: asyncio.Queue[str] = asyncio.Queue()
        self._transport: asyncio.DatagramTransport
        self._numbers = itertools.count(1)

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        text = data.decode(errors="replace")  # whoever had the port before may still be sent RTCP
        if text.startswith("SIP/2.0 ") and text[8] != "1":
            self._answers.put_nowait(text)

    async def call(self, length_s: float) -> tuple[str, float]:
        """Make a call; return the status that it got and the longest gap in what was heard, in milliseconds."""
        call_id = f"{id(self)}.{time.monotonic_ns()}"
        async with RtpPeer(then_silence=True) as phone:
            answer = await self._ask("INVITE", 1, call_id, body=SDP.format(phone.port))
            status = answer[8:11]
            tag = next((line.partition(";tag=")[2] for line in answer.split("\r\n") if line.startswith("To:")), "")
            self._send("ACK", 1, call_id, tag)
            if status != "200":
                return status, 0.0
            phone.talk()
            await asyncio.sleep(length_s)
            await self._ask("BYE", 2, call_id, tag)
            arrivals = [packet.arrived_at for packet in phone.reception.packets]
        return status, longest_gap_ms(arrivals)

    async def _ask(self, method: str, cseq: int, call_id: str, tag: str = "", body: str = "") -> str:
        self._send(method, cseq, call_id, tag, body)
        async with asyncio.timeout(ANSWER_S):
            while call_id not in (answer := await self._answers.get()) or f"{cseq} {method}" not in answer:
                pass
        return answer

    def _send(self, method: str, cseq: int, call_id: str, tag: str, body: str = "") -> None:
        text = request(method, cseq=cseq, inside=True, body=body)
        for name, value in (
            ("%port%", str(self._gateway[1])),
            ("%sip%", str(self._transport.get_extra_info("sockname")[1])),
            ("%new%", str(next(self._numbers)) + call_id),
            ("%id%", call_id),
            ("%tag%", f";tag={tag}" if tag else ""),
            ("%length%", str(len(body))),
        ):
            text = text.replace(name, value)
        self._transport.sendto(text.encode(), self._gateway)


def rss_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


async def run(calls: int, length_s: float, every: int, variables: dict[str, str]) -> float:
    """Print a line each ``every`` calls; return by how many MB memory grew after the first 20."""
    made, gaps, warm = Counter[str](), [0.0], 0.0
    with tempfile.TemporaryDirectory(prefix="short-calls-") as name:
        plan = Path(name) / "plan.yaml"
        plan.write_text(PLAN, encoding="utf-8")
        first_rtp_port = free_port() // 2 * 2 % 20000 + 30000
        async with EmbeddedRedis() as redis, Simulator(SimulatorOptions(keep_audio_s=0)) as simulator:
            variables = {
                "GATEWAY_DIALPLAN": str(plan),
                "GATEWAY_SIP__HOST": "127.0.0.1",
                "GATEWAY_SIP__PORT": "0",
                "GATEWAY_SIP__RTP_PORT_MIN": str(first_rtp_port),
                "GATEWAY_SIP__RTP_PORT_MAX": str(first_rtp_port + 99),
                "GATEWAY_REALTIME__URL": simulator.url,
                "GATEWAY_REALTIME__API_KEY": "short",
                "GATEWAY_REDIS__URL": redis,
                "GATEWAY_REDIS__RETENTION_S": "30",
                **variables,
            }
            async with GatewayProcess(variables) as gateway:
                pid, left, started = gateway.process.pid, iter(range(calls)), time.monotonic()

                async def caller() -> None:
                    nonlocal warm
                    loop = asyncio.get_running_loop()
                    transport, phone = await loop.create_datagram_endpoint(
                        lambda: Caller(gateway.port), local_addr=("127.0.0.1", 0), family=socket.AF_INET
                    )
                    for _ in left:
                        status, gap = await phone.call(length_s)
                        made[status] += 1
                        gaps.append(gap)
                        simulator.connections[:] = [each for each in simulator.connections if each.open]
                        warm = warm or (rss_mb(pid) if made.total() >= 20 else 0.0)
                        if made.total() % every == 0:
                            tell(made, gaps, rss_mb(pid), time.monotonic() - started)
                    transport.close()

                tell(made, gaps, rss_mb(pid), 0.0)
                await asyncio.gather(*(caller() for _ in range(CALLERS)))
                grown = rss_mb(pid) - warm
    return grown


def tell(made: Counter[str], gaps: list[float], memory_mb: float, seconds: float) -> None:
    answered = ", ".join(f"{count} x {status}" for status, count in sorted(made.items())) or "none"
    ordered = sorted(gaps)
    gap = f"longest gap {ordered[-1]:.0f} ms, 99 % under {ordered[len(ordered) * 99 // 100]:.0f}"
    sys.stdout.write(f"{seconds:6.0f} s  calls: {answered:20}  {memory_mb:6.1f} MB  {gap}\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description="Many short calls: memory and gaps.")
    parser.add_argument("--calls", type=int, default=3000)
    parser.add_argument("--length-s", type=float, default=0.4)
    parser.add_argument("--every", type=int, default=250)
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="settings of the gateway")
    given = parser.parse_args()
    variables = dict(each.split("=", 1) for each in given.set)
    grown = asyncio.run(run(given.calls, given.length_s, given.every, variables))
    sys.stdout.write(f"grown by {grown:.1f} MB after the first 20 calls, at most {MOST_GROWTH_MB:g} allowed\n")
    sys.exit(grown > MOST_GROWTH_MB)


if __name__ == "__main__":
    main()
