"""TLS for tests: certificates that sign themselves, and a registrar behind one."""

from __future__ import annotations

import asyncio
import re
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Certificate:
    """PEM files of a certificate that signs itself, thrown away with the test."""

    certificate: Path
    key: Path


def self_signed(folder: Path, name: str = "own", subject: str = "IP:127.0.0.1") -> Certificate:
    """Make a certificate with the openssl program; ``subject`` as ``IP:127.0.0.1`` or ``DNS:carrier.example``."""
    made = Certificate(folder / f"{name}.pem", folder / f"{name}.key")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", f"/CN={subject.partition(':')[2]}", "-addext", f"subjectAltName={subject}"]
    command += ["-keyout", str(made.key), "-out", str(made.certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return made


class TlsRegistrar:
    """Grants every REGISTER that comes over TLS."""

    def __init__(self, authority: Certificate) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(authority.certificate, authority.key)
        self.requests: list[str] = []
        self.port = 0

    async def __aenter__(self) -> TlsRegistrar:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                request = (await reader.readuntil(b"\r\n\r\n")).decode()
                self.requests.append(request)
                copied = [
                    line for line in request.split("\r\n") if re.match(r"(Via|From|To|Call-ID|CSeq|Contact):", line)
                ]
                writer.write("\r\n".join(["SIP/2.0 200 OK", *copied, "Content-Length: 0", "", ""]).encode())
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            writer.close()
