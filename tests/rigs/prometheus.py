"""Prometheus and promtool, Debian's, as the operator runs them."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from gateway.free_port import free_port

FILES = Path(__file__).parents[2] / "docker" / "prometheus"
LIMIT_S = 40.0


def promtool(*words: str, given: bytes = b"") -> str:
    """Run promtool and return what it printed; fails with that when it finds a fault."""
    done = subprocess.run(["/usr/bin/promtool", *words], input=given, capture_output=True, timeout=60)
    told = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, told
    return told


class Prometheus:
    """A running server: what it scraped can be asked for."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the result of an instant query."""
        answer = await self._http.get("/api/v1/query", params={"query": expression})
        told = answer.json()
        assert told["status"] == "success", f"{expression}: {told}"
        return list(told["data"]["result"])

    async def value(self, expression: str) -> float:
        """Return the value of a query with one result, waiting until it has one."""
        async with asyncio.timeout(LIMIT_S):
            while not (found := await self.query(expression)):
                await asyncio.sleep(0.2)
        return float(found[0]["value"][1])

    async def targets(self) -> list[dict[str, Any]]:
        """Return what it scrapes, and how that went."""
        answer = await self._http.get("/api/v1/targets")
        return list(answer.json()["data"]["activeTargets"])

    async def alerts(self) -> dict[str, str]:
        """Return the alerts that are pending or firing, by name."""
        answer = await self._http.get("/api/v1/alerts")
        return {alert["labels"]["alertname"]: alert["state"] for alert in answer.json()["data"]["alerts"]}


@asynccontextmanager
async def running(folder: Path, target: str, token: str = "") -> AsyncIterator[Prometheus]:
    """Run a server on a free port of loopback that scrapes ``target`` each second, with the rules of ``docker/``."""
    config = yaml.safe_load((FILES / "prometheus.yml").read_text(encoding="utf-8"))
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(FILES / "rules.yml")]
    (scrape,) = config["scrape_configs"]
    scrape["static_configs"] = [{"targets": [target]}]
    (folder / "token").write_text(token, encoding="utf-8")
    scrape["authorization"] = {"credentials_file": str(folder / "token")}
    (folder / "prometheus.yml").write_text(json.dumps(config), encoding="utf-8")
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        "/usr/bin/prometheus",
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=error",
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http:
            await _until_ready(http)
            yield Prometheus(http)
    finally:
        process.terminate()
        await process.wait()


async def _until_ready(http: httpx.AsyncClient) -> None:
    async with asyncio.timeout(LIMIT_S):
        while True:
            try:
                if (await http.get("/-/ready")).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.1)
