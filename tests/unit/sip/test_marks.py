"""What runs on the SIP thread says so: every public method of the classes that keep something there."""

from __future__ import annotations

import inspect

import pytest

from gateway.sip.admission.access_list import AccessList
from gateway.sip.admission.bodies import Bodies
from gateway.sip.admission.dialog_table import DialogTable
from gateway.sip.admission.screening import Screening
from gateway.sip.calls.accounts import Accounts
from gateway.sip.calls.bridge import Bridge
from gateway.sip.calls.calls import PjCall, PjSecondLeg
from gateway.sip.calls.dialog import Dialog
from gateway.sip.calls.table import CallTable
from gateway.sip.library.endpoint import GatewayEndpoint
from gateway.sip.location.directory import ServerDirectory
from gateway.sip.location.failover import Failover
from gateway.sip.location.locator import Locator
from gateway.sip.location.trunk_names import TrunkNames
from gateway.sip.native.dtmf_memory import DtmfMemory
from gateway.sip.native.jitter_buffer import JitterBuffer, JitterBuffers
from gateway.sip.native.library import Endpoint, RawSender
from gateway.sip.native.parser import BodyReplacer, ParserGate
from gateway.sip.native.register_id import RegisterIds
from gateway.sip.screen.connections import AcceptGuard
from gateway.sip.screen.dropped_data import DroppedData
from gateway.sip.screen.screen import Screen
from gateway.sip.screen.trace import Tracer

pytestmark = pytest.mark.unit

ON_SIP = (
    *(AccessList, Bodies, DialogTable, Screening),
    *(Accounts, Bridge, CallTable, Dialog, PjCall, PjSecondLeg),
    *(GatewayEndpoint, ServerDirectory, Failover, Locator, TrunkNames),
    *(BodyReplacer, DtmfMemory, Endpoint, JitterBuffer, JitterBuffers, ParserGate, RawSender, RegisterIds),
    *(AcceptGuard, DroppedData, Screen, Tracer),
)


@pytest.mark.parametrize("owner", ON_SIP, ids=lambda owner: owner.__name__)
def test_a_public_method_is_marked_with_its_thread(owner: type) -> None:
    methods = [member for name, member in vars(owner).items() if inspect.isfunction(member) and name[0] != "_"]
    methods = [method for method in methods if method.__name__ != "<lambda>"]  # the default of a field
    assert methods
    assert [method.__name__ for method in methods if getattr(method, "__runs_on__", None) != "sip"] == []
