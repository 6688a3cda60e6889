"""A Realtime API that runs here: to try the gateway without a key, and to test it."""

from gateway.lab.simulator.faults.faults import parse_fault
from gateway.lab.simulator.options import SimulatorOptions
from gateway.lab.simulator.script import Script
from gateway.lab.simulator.server.server import Simulator
from gateway.lab.simulator.transport.connection import Connection, SeenEvent, Spoken

__all__ = ["Connection", "Script", "SeenEvent", "Simulator", "SimulatorOptions", "Spoken", "parse_fault"]
