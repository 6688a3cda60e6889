"""A Prometheus that scrapes a running gateway, with the configuration, the rules and the dashboard of docker/."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from docs.generate.dashboard import dashboard
from gateway.child_process import ChildProcess
from gateway.lab.callers.rtp_peer import RtpPeer
from gateway.lab.simulator import Script, SimulatorOptions
from gateway.metrics.definitions import METRICS
from gateway.settings.sources import environment_for_child
from gateway.web.tokens import hash_of
from tests.rigs.house import House, MakeHouse
from tests.rigs.prometheus import running
from tests.rigs.sipp import play
from tests.rigs.sipp_steps import ANSWERED, BYE, invite, pause

pytestmark = pytest.mark.e2e

TOKEN = "gw_token-of-prometheus-0123456789"
CALLS = 3
NOT_SEEN = {  # by whoever has no carrier, no webhooks, no outage, no model that retires
    "gateway_trunk_workers",
    "gateway_upstream_workers",
    "gateway_model_shutdown_timestamp_seconds",
}


@asynccontextmanager
async def gateway_web(here: House, folder: Path) -> AsyncIterator[str]:
    """Run ``gateway web`` beside a gateway; give its address and port."""
    reader = json.dumps({"hash": hash_of(TOKEN), "scopes": ["read"]})
    given = {"GATEWAY_REDIS__URL": here.redis_url, "GATEWAY_WEB__TOKENS__PROMETHEUS": reader}
    environment = environment_for_child({**given, "GATEWAY_DIALPLAN": str(folder / "plan.yaml")})
    command = (sys.executable, "-m", "gateway", "web", "--port", "0")
    async with ChildProcess(*command, environment=environment, folder=folder, stop_limit_s=40) as process:
        found = await process.find(r"^ready: http://(127\.0\.0\.1:\d+)", 40)
        yield found[1]
    assert (process.exit_code, TOKEN in process.output) == (0, False), process.output


async def test_a_prometheus_sees_calls_and_every_panel_of_the_dashboard_is_answered(
    house: MakeHouse, tmp_path: Path
) -> None:
    script = Script.model_validate({"answers": [{"output": [{"sentence": 0}]}]})
    async with (
        house(simulator=SimulatorOptions(script=script)) as here,
        gateway_web(here, tmp_path) as target,
        running(tmp_path, target, TOKEN) as prometheus,
        RtpPeer() as phone,
    ):
        phone.talk()
        assert await prometheus.value('up{job="gateway"} == 1') == 1
        for number in range(CALLS):
            call = play(here.port, tmp_path / f"sipp-{number}", invite(phone.port), ANSWERED, pause(4000), BYE)
            talking = asyncio.create_task(call)
            assert await prometheus.value('sum(gateway_live_calls{state="active"}) == 1') == 1
            await talking
        ended = 'sum(gateway_calls_ended_total{end_reason="caller_hung_up",fault="nobody",direction="inbound"})'
        assert await prometheus.value(f"{ended} == {CALLS}") == CALLS
        assert await prometheus.value("gateway_calls_answered_total{direction='inbound'}") == CALLS
        assert await prometheus.value("sum(gateway_call_setup_seconds_count)") == CALLS
        assert await prometheus.value("sum(gateway_call_first_audio_seconds_count)") == CALLS
        assert await prometheus.value('gateway_rtp_packets_total{way="received"}') > CALLS * 100
        assert await prometheus.value('gateway_upstream_tokens_total{kind="audio_out"}') > 0
        assert await prometheus.value('sum(gateway_workers{state="ready"})') == 1
        unseen = {metric.name for metric in METRICS if not await prometheus.query(_any_of(metric.name))}
        assert unseen <= NOT_SEEN
        queries = [target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", ())]
        answered = {query: await prometheus.query(query.replace("$__rate_interval", "1m")) for query in queries}
        unanswered = [query for query, result in answered.items() if not result]
        assert all(any(name in query for name in NOT_SEEN) for query in unanswered), unanswered
        assert "firing" not in (await prometheus.alerts()).values()


def _any_of(name: str) -> str:
    return f'{{__name__=~"{name}(_bucket)?"}}'


async def test_a_prometheus_without_the_token_learns_nothing(house: MakeHouse, tmp_path: Path) -> None:
    async with house() as here, gateway_web(here, tmp_path) as target:
        async with httpx.AsyncClient(base_url=f"http://{target}", trust_env=False) as http:
            refused = await http.get("/metrics")
            assert (refused.status_code, "gateway_" in refused.text) == (401, False)
        async with running(tmp_path, target, "gw_wrong") as prometheus:
            assert await prometheus.value('up{job="gateway"} == bool 1') == 0
            (scraped,) = await prometheus.targets()
            assert "401" in scraped["lastError"]
