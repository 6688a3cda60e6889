"""More steps of SIPp: what a far end does inside a dialog, and SIPp as the one who is called."""

from __future__ import annotations

from tests.e2e.sipp import _NEW_BRANCH, _SAME_BRANCH, _TARGET, _message, _response

CONTENT = "\n      Content-Type: application/sdp"
_NEXT = "[next_url] SIP/2.0"


def sdp(
    rtp_port: int = 6000,
    *,
    payloads: str = "0 8 101",
    direction: str = "sendrecv",
    address: str = "[local_ip]",
    version: int = 1,
) -> str:
    """A session description with one audio line."""
    return f"""      v=0
      o=caller 1 {version} IN IP4 [local_ip]
      s=-
      c=IN IP4 {address}
      t=0 0
      m=audio {rtp_port} RTP/AVP {payloads}
      a=rtpmap:101 telephone-event/8000
      a={direction}
      """


def expected(code: int) -> str:
    return f'<recv response="100" optional="true"/>\n<recv response="{code}"/>'


def reinvite(body: str, *, cseq: int = 3, code: int = 200) -> str:
    """A re-INVITE, the expected final answer, and its ACK."""
    sent = _message(f"INVITE {_NEXT}", f"{cseq} INVITE", more=CONTENT if body else "", body=body)
    via = _NEW_BRANCH if code < 300 else _SAME_BRANCH
    ack = _message(f"ACK {_NEXT}", f"{cseq} ACK", via=via)
    return f'<send retrans="500">{sent}</send>\n{expected(code)}\n<send>{ack}</send>'


def reinvite_without_offer(body: str, *, cseq: int = 3) -> str:
    """A re-INVITE whose offer is in the 200, and the answer in the ACK (RFC 3264 section 4)."""
    sent = _message(f"INVITE {_NEXT}", f"{cseq} INVITE")
    ack = _message(f"ACK {_NEXT}", f"{cseq} ACK", more=CONTENT, body=body)
    return f'<send retrans="500">{sent}</send>\n{expected(200)}\n<send>{ack}</send>'


def update(body: str, *, cseq: int = 3, code: int = 200) -> str:
    """An UPDATE (RFC 3311) and its answer."""
    sent = _message(f"UPDATE {_NEXT}", f"{cseq} UPDATE", more=CONTENT if body else "", body=body)
    return f'<send retrans="500">{sent}</send>\n<recv response="{code}"/>'


def info(kind: str, body: str, *, cseq: int = 3, code: int = 200) -> str:
    """An INFO and its answer."""
    sent = _message(f"INFO {_NEXT}", f"{cseq} INFO", more=f"\n      Content-Type: {kind}", body=body)
    return f'<send retrans="500">{sent}</send>\n<recv response="{code}"/>'


def notify(event: str, *, cseq: int, code: int) -> str:
    """A NOTIFY inside the call, and its answer."""
    more = f"\n      Event: {event}\n      Subscription-State: active"
    sent = _message(f"NOTIFY {_NEXT}", f"{cseq} NOTIFY", more=more)
    return f'<send retrans="500">{sent}</send>\n<recv response="{code}"/>'


def expect_info() -> str:
    """An INFO of ours, accepted."""
    return f'<recv request="INFO" timeout="10000"/>\n{_response("200 OK")}'


def first_invite(body: str = "", more: str = "") -> str:
    """An INVITE with any headers, with or without an offer."""
    sent = _message(f"INVITE {_TARGET}", "1 INVITE", to_tag="", more=more + (CONTENT if body else ""), body=body)
    return f'<send retrans="500">{sent}</send>\n<recv response="100" optional="true"/>'


def answered_late(body: str) -> str:
    """The 200 brings the offer, the ACK the answer."""
    ack = _message(f"ACK {_NEXT}", "1 ACK", more=CONTENT, body=body)
    return f'<recv response="180" optional="true"/>\n<recv response="200" rrs="true"/>\n<send>{ack}</send>'


_RACK = "\n      RAck: [$rseq] 1 INVITE"
PRACKED = (
    '<recv response="180" rrs="true">\n<action><ereg regexp="[0-9]+" search_in="hdr" header="RSeq:" '
    'assign_to="rseq"/></action>\n</recv>\n'
    f'<send retrans="500">{_message(f"PRACK {_NEXT}", "2 PRACK", more=_RACK)}</send>\n'
    '<recv response="200"/>'
)


def bye(more: str = "", *, cseq: int = 9) -> str:
    """A BYE with more headers."""
    return f'<send retrans="500">{_message(f"BYE {_NEXT}", f"{cseq} BYE", more=more)}</send>\n<recv response="200"/>'


EARLY_BYE = (
    f'<send retrans="500">{_message(f"BYE {_NEXT}", "2 BYE")}</send>\n'
    '<recv response="487" optional="true"/>\n<recv response="200"/>'
)


# SIPp is called


def respond(status: str, body: str = "", more: str = "", *, tag: bool = True) -> str:
    """A response of whoever was called."""
    to = "[last_To:];tag=[pid]SIPpTag[call_number]" if tag else "[last_To:]"
    content = CONTENT if body else ""
    return f"""<send><![CDATA[

      SIP/2.0 {status}
      [last_Via:]
      [last_From:]
      {to}
      [last_Call-ID:]
      [last_CSeq:]
      Contact: <sip:callee@[local_ip]:[local_port];transport=[transport]>{more}{content}
      Content-Length: [len]

{body}]]></send>"""


EXPECT_INVITE = '<recv request="INVITE" timeout="30000" rrs="true"/>'
EXPECT_ACK = """<recv request="ACK" timeout="30000">
<action>
<ereg regexp=".*" search_in="hdr" header="From:" assign_to="peer"/>
<ereg regexp=".*" search_in="hdr" header="To:" assign_to="us"/>
</action>
</recv>
<Reference variables="peer,us"/>"""
RING = respond("180 Ringing")
EXPECT_CANCEL = (
    f'<recv request="CANCEL" timeout="30000"/>\n{respond("200 OK")}\n'
    + """<send><![CDATA[

      SIP/2.0 487 Request Terminated
      [last_Via:]
      [last_From:]
      [last_To:];tag=[pid]SIPpTag[call_number]
      [last_Call-ID:]
      CSeq: [last_cseq_number] INVITE
      Content-Length: 0

]]></send>"""
    + f"\n{EXPECT_ACK}"
)


def refuse_call(status: str, more: str = "") -> str:
    """Ring, and refuse."""
    return f"{EXPECT_INVITE}\n{RING}\n{respond(status, more=more)}\n{EXPECT_ACK}"


def take_call(rtp_port: int) -> str:
    """Ring, and answer."""
    return f"{EXPECT_INVITE}\n{RING}\n{respond('200 OK', sdp(rtp_port))}\n{EXPECT_ACK}"


def _from_callee(method: str, cseq: int, more: str = "", body: str = "") -> str:
    return f"""<send retrans="500"><![CDATA[

      {method} [next_url] SIP/2.0
      Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
      From:[$us]
      To:[$peer]
      Call-ID: [call_id]
      CSeq: {cseq} {method}
      Max-Forwards: 70{more}
      Content-Length: [len]

{body}]]></send>
<recv response="100" optional="true"/>
<recv response="200"/>"""


CALLEE_BYE = _from_callee("BYE", 9)


def callee_reinvite(body: str) -> str:
    """A re-INVITE of whoever was called, and its ACK."""
    ack = """<send><![CDATA[

      ACK [next_url] SIP/2.0
      Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
      From:[$us]
      To:[$peer]
      Call-ID: [call_id]
      CSeq: 2 ACK
      Max-Forwards: 70
      Content-Length: 0

]]></send>"""
    return f"{_from_callee('INVITE', 2, CONTENT, body)}\n{ack}"


def callee_info(kind: str, body: str) -> str:
    """An INFO of whoever was called."""
    return _from_callee("INFO", 2, f"\n      Content-Type: {kind}", body)
