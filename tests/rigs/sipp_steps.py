"""Steps of SIPp scenarios: of a caller, of a far end inside a dialog, of the one who is called, of a registrar."""

from __future__ import annotations

from tests.rigs.kamailio import PASSWORD, REALM, USER

CONTENT = "\n      Content-Type: application/sdp"
CONTACT = "\n      Contact: <sip:callee@[local_ip]:[local_port];transport=[transport]>"
_TARGET = "sip:[service]@[remote_ip]:[remote_port] SIP/2.0"
_NEW_BRANCH = "Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]"
_SAME_BRANCH = "[last_Via:]"  # what belongs to the INVITE's transaction: CANCEL, the ACK of a refusal
_HEADERS = """
      {via}
      From: "caller" <sip:caller@[local_ip]:[local_port]>;tag=[pid]SIPpTag[call_number]
      To: <sip:[service]@[remote_ip]:[remote_port]>{to_tag}
      Call-ID: [call_id]
      CSeq: {cseq}
      Contact: <sip:caller@[local_ip]:[local_port];transport=[transport]>
      Max-Forwards: 70
"""


def _message(
    first_line: str,
    cseq: str,
    *,
    via: str = _NEW_BRANCH,
    to_tag: str = "[peer_tag_param]",
    more: str = "",
    body: str = "",
) -> str:
    headers = _HEADERS.format(via=via, to_tag=to_tag, cseq=cseq).strip("\n")
    return f"<![CDATA[\n\n      {first_line}\n{headers}{more}\n      Content-Length: [len]\n\n{body}]]>"


def invite(rtp_port: int = 6000, *, payloads: str = "0 8 101") -> str:
    """An INVITE that offers audio at ``rtp_port``, then 100."""
    body = f"""      v=0
      o=caller 1 1 IN IP4 [local_ip]
      s=-
      c=IN IP4 [local_ip]
      t=0 0
      m=audio {rtp_port} RTP/AVP {payloads}
      a=rtpmap:101 telephone-event/8000
      a=ptime:20
      """
    text = _message(
        f"INVITE {_TARGET}",
        "1 INVITE",
        to_tag="",
        more="\n      Content-Type: application/sdp",
        body=body,
    )
    return f'<send retrans="500">{text}</send>\n<recv response="100" optional="true"/>'


RINGING = '<recv response="180" optional="true"/>'
WAIT_FOR_RINGING = '<recv response="180"/>'
ACK = f"<send>{_message('ACK [next_url] SIP/2.0', '1 ACK')}</send>"
ACK_REFUSAL = f"<send>{_message(f'ACK {_TARGET}', '1 ACK', via=_SAME_BRANCH)}</send>"
ANSWERED = f'{RINGING}\n<recv response="200" rrs="true"/>\n{ACK}'
BYE = f'<send retrans="500">{_message("BYE [next_url] SIP/2.0", "9 BYE")}</send>\n<recv response="200"/>'
CANCEL = (
    f'<send retrans="500">{_message(f"CANCEL {_TARGET}", "1 CANCEL", via=_SAME_BRANCH, to_tag="")}</send>'
    f'\n<recv response="200"/>\n<recv response="487"/>\n{ACK_REFUSAL}'
)


def respond(
    status: str, body: str = "", more: str = "", *, tag: bool = True, contact: str = CONTACT, retrans: str = ""
) -> str:
    """
    A response to the last request.

    Args:
        status: such as ``200 OK``.
        body: a session description.
        more: further header lines.
        tag: add one to the To, as the first response of a dialog does.
        contact: its header line, or nothing.
        retrans: such as ``retrans="500"``, for a response that is sent again until its ACK.
    """
    to = "[last_To:];tag=[pid]SIPpTag[call_number]" if tag else "[last_To:]"
    content = CONTENT if body else ""
    return f"""<send {retrans}><![CDATA[

      SIP/2.0 {status}
      [last_Via:]
      [last_From:]
      {to}
      [last_Call-ID:]
      [last_CSeq:]{contact}{more}{content}
      Content-Length: [len]

{body}]]></send>"""


def respond_inside(status: str = "200 OK", more: str = "") -> str:
    """A response to a request inside a dialog."""
    return respond(status, more=more, tag=False, contact="")


EXPECT_BYE = f'<recv request="BYE" timeout="30000"/>\n{respond_inside()}'
OPTIONS = f'<send retrans="500">{_message(f"OPTIONS {_TARGET}", "1 OPTIONS", to_tag="")}</send>\n<recv response="200"/>'


def expect_refer(outcome: str, state: str = "terminated;reason=noresource") -> str:
    """
    A REFER that is accepted, and the NOTIFY that tells what came of it, such as ``486 Busy Here`` (RFC 3515).

    Without an outcome the NOTIFY has no body.
    """
    kind = "\n      Content-Type: message/sipfrag" if outcome else ""
    notify = _message(
        "NOTIFY [next_url] SIP/2.0",
        "5 NOTIFY",
        more=f"\n      Event: refer\n      Subscription-State: {state}{kind}",
        body=f"SIP/2.0 {outcome}\n" if outcome else "",
    )
    return f'{accept_refer()}\n<send retrans="500">{notify}</send>\n<recv response="200"/>'


def accept_refer() -> str:
    """A REFER that is accepted, without news of it."""
    contact = "\n      Contact: <sip:caller@[local_ip]:[local_port];transport=[transport]>"
    return f'<recv request="REFER" timeout="30000"/>\n{respond_inside("202 Accepted", contact)}'


def refuse_refer(status: str) -> str:
    """A REFER that is refused, with a status such as ``405 Method Not Allowed``."""
    return f'<recv request="REFER" timeout="30000"/>\n{respond_inside(status)}'


def pause(ms: int) -> str:
    """Wait."""
    return f'<pause milliseconds="{ms}"/>'


def refused(code: int) -> str:
    """A final refusal and its ACK."""
    return f'{RINGING}\n<recv response="{code}"/>\n{ACK_REFUSAL}'


# Inside a dialog

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
    return f'<recv request="INFO" timeout="10000"/>\n{respond_inside()}'


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

_RECORD_ROUTE = "\n      [last_Record-Route:]"
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


def take_call(rtp_port: int = 6000) -> str:
    """Ring, and answer; a proxy between stays in the way where it asks to (RFC 3261 section 16.6)."""
    ringing = respond("180 Ringing", more=_RECORD_ROUTE)
    answer = respond("200 OK", sdp(rtp_port), _RECORD_ROUTE, retrans='retrans="500"')
    return f"{EXPECT_INVITE}\n{ringing}\n{answer}\n{EXPECT_ACK}"


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
    """A re-INVITE of the callee, and its ACK."""
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
    """An INFO of the callee."""
    return _from_callee("INFO", 2, f"\n      Content-Type: {kind}", body)


# SIPp is a registrar


def refuse_request(status: str, *lines: str) -> str:
    """A failure, with further header lines."""
    return respond(status, more="".join(f"\n      {line}" for line in lines), contact="")


REGISTER = '<recv request="REGISTER"/>'


def register_with(header: str, pattern: str) -> str:
    """A REGISTER one of whose headers must match."""
    check = f'<ereg regexp="{pattern}" search_in="hdr" header="{header}:" check_it="true" assign_to="1"/>'
    return f'<recv request="REGISTER"><action>{check}</action></recv><Reference variables="1"/>'


SIGNED_REGISTER = (
    f'<recv request="REGISTER"><action><verifyauth assign_to="2" username="{USER}" password="{PASSWORD}"/></action>'
    f'</recv><nop test="2" next="7"/>{respond("403 Forbidden", contact="")}<label id="7"/>'
)
"""A REGISTER whose digest must be right; any other is refused."""
CHALLENGE = refuse_request(
    "401 Unauthorized", f'WWW-Authenticate: Digest realm="{REALM}", nonce="47364c23432d2e131a5fb210812c"'
)


def granted(expires_s: int) -> str:
    """A binding."""
    contact = f"\n      Contact: <sip:{USER}@127.0.0.1>;expires={expires_s}"
    return respond("200 OK", more=f"\n      Expires: {expires_s}", contact=contact)
