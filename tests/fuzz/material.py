"""Honest SIP messages, SDP and RTP: what mutations start from. %names% are filled in when they are sent."""

from __future__ import annotations

import struct

KEYS = {
    "AES_CM_128_HMAC_SHA1_80": "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVoxMjM0",
    "AES_CM_128_HMAC_SHA1_32": "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVoxMjM0",
    "AES_256_CM_HMAC_SHA1_80": "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVoxMjM0NTY3ODkwYWJjZGVmZ2hpamts",
}
CRYPTO = "".join(f"a=crypto:{n} {suite} inline:{key}\r\n" for n, (suite, key) in enumerate(KEYS.items(), 1))
HEAD = "v=0\r\no=- 3 7 IN IP4 127.0.0.1\r\ns=-\r\n"
HERE = "c=IN IP4 127.0.0.1\r\n"
EVENTS = "a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\n"
AUDIO = "m=audio %media% RTP/AVP 0 8 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n"
AUDIO += f"{EVENTS}a=ptime:20\r\na=sendrecv\r\n"
SECURE = f"m=audio %media% RTP/SAVP 0 101\r\n{EVENTS}{CRYPTO}"
LINES = (
    "m=video 0 RTP/AVP 96\r\n",
    "m=video 40000 RTP/AVP 96 97\r\na=rtpmap:96 H264/90000\r\na=rtcp-fb:* nack pli\r\n",
    "m=image 0 udptl t38\r\n",
    "m=image 40002 udptl t38\r\na=T38FaxVersion:0\r\na=T38FaxRateManagement:transferredTCF\r\n",
    "m=text 0 RTP/AVP 98\r\n",
    "m=text 40004 RTP/AVP 98 99\r\na=rtpmap:98 t140/1000\r\na=rtpmap:99 red/1000\r\n",
    "m=audio 0 RTP/AVP 0\r\n",
    "m=audio 40006 RTP/AVP 8\r\n",
    "m=audio 40008 RTP/AVP 0\r\nc=IN IP6 ::1\r\n",
    "m=audio 40010 UDP/TLS/RTP/SAVPF 0\r\na=fingerprint:sha-256 AB:CD\r\na=setup:actpass\r\n",
    "m=audio 40012 RTP/AVPF 0\r\na=rtcp-mux\r\n",
    "m=application 40014 TCP/BFCP *\r\na=setup:passive\r\n",
    "m=message 40016 TCP/MSRP *\r\na=path:msrp://127.0.0.1:40016/x;tcp\r\n",
    SECURE,
    "m=audio 40018 RTP/SAVP 0\r\n",
)
ATTRIBUTES = (
    *("c=IN IP4 0.0.0.0", "c=IN IP6 ::1", "c=IN IP4 name.invalid", "c=IN IP4 224.0.0.1/127/3", "c=IN IP4", "c="),
    *("a=sendonly", "a=recvonly", "a=inactive", "a=ptime:0", "a=ptime:999999", "a=maxptime:-1", "a=rtcp-mux"),
    *("a=rtcp:40001", "a=rtcp:40001 IN IP4 name.invalid", "a=rtcp:99999999999", "a=rtcp:1 IN IP6 ::1", "a=rtcp:"),
    *("a=rtpmap:0", "a=rtpmap:101 telephone-event", "a=rtpmap:96 G722/8000/2", "a=rtpmap:255 PCMU/8000"),
    *("a=rtpmap:101 telephone-event/16000", "a=fmtp:0", "a=fmtp:101 0-255,,", "a=fmtp:-1 x", "a=fmtp:101"),
    *(
        "a=ice-ufrag:8hhY",
        "a=ice-pwd:asd88fgpdd777uzjYhagZg",
        "a=candidate:1 1 UDP 2130706431 127.0.0.1 40000 typ host",
    ),
    *("a=ice-lite", "a=ssrc:1 cname:x", "a=mid:0", "a=group:BUNDLE 0 1", "a=setup:active", "a=key-mgmt:mikey AAAA"),
    *("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:x", "a=crypto:1 NULL inline:", "a=crypto", "a=crypto:"),
    *("a=crypto 2 AES_CM_128_HMAC_SHA1_80 inline:x|2^20|1:4 KDR=1", "b=AS:64", "b=TIAS:4294967296", "b=:", "b=CT"),
    *(
        "t=0 0",
        "t=4294967296 -1",
        "r=7d 1h 0",
        "z=0 -1h",
        "k=clear:x",
        "i=x",
        "u=http://x",
        "e=x@y",
        "p=+1",
        "v=1",
        "o=-",
    ),
)
BODIES = {
    "application/dtmf-relay": (
        "Signal=5\r\nDuration=160\r\n",
        "Signal=5",
        "Signal= *\nDuration= 100",
        "Duration=1\r\n",
    ),
    "application/dtmf": ("5", "5\r\n", "#", "16"),
    "application/media_control+xml": (
        "<media_control><vc_primitive><to_encoder><picture_fast_update/></to_encoder></vc_primitive></media_control>",
    ),
    "message/sipfrag;version=2.0": ("SIP/2.0 200 OK\r\n", "SIP/2.0 200 OK", "SIP/2.0 503"),
    "application/simple-message-summary": ("Messages-Waiting: yes\r\n", "x"),
    "text/plain": ("hello", ""),
    "multipart/mixed;boundary=b": ("--b\r\nContent-Type: text/plain\r\n\r\nx\r\n--b--\r\n", "--b\r\n", "--b--"),
    "application/vnd.cirpack.isdn-ext": ("",),
    "application/sdp": (HEAD + HERE + "t=0 0\r\n" + AUDIO,),
}
HEADERS = (
    *("Supported: timer, 100rel, replaces", "Require: 100rel", "Require: nothing", "Session-Expires: 90;refresher=uas"),
    *(
        "Min-SE: 90",
        "Session-Expires: 1",
        "Expires: 0",
        "Event: refer",
        "Event: refer;id=1",
        "Subscription-State: active",
    ),
    *(
        "Subscription-State: terminated;reason=noresource",
        "Refer-To: <sip:x@127.0.0.1>",
        "Replaces: a;to-tag=b;from-tag=c",
    ),
    *(
        "Route: <sip:127.0.0.1:9;lr>",
        "Record-Route: <sip:127.0.0.1:9;lr>",
        "RAck: 1 1 INVITE",
        "RSeq: 1",
        "Reason: Q.850;cause=16",
    ),
    *('P-Asserted-Identity: "a, b" <sip:+49@h>, <tel:+49>', "Diversion: <sip:1@h>;reason=unconditional", "Privacy: id"),
    *("History-Info: <sip:1@h>;index=1", "Authorization: Digest username=x", "Content-Encoding: gzip", "Accept: a/b"),
    *("Content-Type: application/sdp", "Content-Type: multipart/mixed;boundary=b", "User-Agent: x", "Max-Forwards: 0"),
    *(
        "Call-ID: second",
        "CSeq: 9 BYE",
        "To: <sip:b@h>;tag=q",
        "t: <sip:b@h>;tag=q",
        "i: x",
        "v: SIP/2.0/UDP 127.0.0.1:9",
    ),
    *(
        "Contact: *",
        "m: <sip:x@127.0.0.1:9;transport=tcp>",
        "Contact: <sip:x@name.invalid>",
        "Content-Length: 5",
        "l: 0",
    ),
)
METHODS = (
    *(
        "INVITE",
        "OPTIONS",
        "REGISTER",
        "BYE",
        "CANCEL",
        "ACK",
        "INFO",
        "NOTIFY",
        "MESSAGE",
        "SUBSCRIBE",
        "REFER",
        "PUBLISH",
    ),
    *("UPDATE", "PRACK", "NONSENSE"),
)
USERS = ("1000", "early", "ringing", "refused", "keys", "second-%sip%", "refer-%sip%")
FINALS = (
    "200 OK",
    "180 Ringing",
    "183 Session Progress",
    "302 Moved",
    "401 Unauthorized",
    "404 Not Found",
    "488 No",
    "503 No",
    "600 No",
)


def sdp(media: str = AUDIO, *, address: str = HERE) -> str:
    """Return a session description of these lines."""
    return f"{HEAD}{address}t=0 0\r\n{media}"


def request(
    method: str,
    *,
    user: str = "1000",
    cseq: int = 1,
    more: str = "",
    body: str = "",
    kind: str = "",
    inside: bool = False,
    over: str = "UDP",
) -> str:
    """
    Return a request.

    Args:
        method: of it.
        user: who is called; says what the stand-in does.
        cseq: number of it in its call.
        more: header lines, each with its end.
        body: of it.
        kind: its Content-Type.
        inside: whether it belongs to the call that the case has.
        over: transport that its Via names.
    """
    tag = "%tag%" if inside else ""
    content = f"Content-Type: {kind or 'application/sdp'}\r\n" if body else ""
    return (
        f"{method} sip:{user}@127.0.0.1:%port% SIP/2.0\r\n"
        f"Via: SIP/2.0/{over} 127.0.0.1:%sip%;branch=z9hG4bK%new%;rport\r\n"
        f'Max-Forwards: 70\r\nFrom: "Fuzz" <sip:fuzz@127.0.0.1>;tag=f%id%\r\nTo: <sip:{user}@127.0.0.1>{tag}\r\n'
        f"Call-ID: %id%\r\nCSeq: {cseq} {method}\r\nContact: <sip:fuzz@127.0.0.1:%sip%>\r\n"
        f"{more}{content}Content-Length: %length%\r\n\r\n{body}"
    )


def response(status: str, *, more: str = "", body: str = "") -> str:
    """Return a response to the target's INVITE."""
    content = "Content-Type: application/sdp\r\n" if body else ""
    contact = "Contact: <sip:callee@127.0.0.1:%sip%>\r\n"
    return f"SIP/2.0 {status}\r\n%echo%{contact}{more}{content}Content-Length: %length%\r\n\r\n{body}"


def rtp(kind: int, sequence: int, timestamp: int, payload: bytes, *, marker: bool = False) -> bytes:
    """Return an RTP packet (RFC 3550 section 5.1)."""
    return (
        struct.pack(
            ">BBHII", 0x80, kind | (0x80 if marker else 0), sequence & 0xFFFF, timestamp & 0xFFFFFFFF, 0x46555A5A
        )
        + payload
    )


def reports() -> tuple[bytes, ...]:
    """Return RTCP packets: SR, RR, SDES, BYE, APP, feedback, XR (RFC 3550 section 6, RFC 4585, RFC 3611)."""
    ssrc = 0x46555A5A
    return (
        struct.pack(">BBHIQIII", 0x80, 200, 6, ssrc, 1 << 63, 160, 1, 160),
        struct.pack(">BBHIIIIIII", 0x81, 201, 7, ssrc, 1, 0xFFFFFF, 1 << 16, 9, 0, 0),
        struct.pack(">BBHIBB", 0x81, 202, 3, ssrc, 1, 4) + b"fuzz\0\0",
        struct.pack(">BBHI", 0x81, 203, 1, ssrc),
        struct.pack(">BBHI4s", 0x80, 204, 2, ssrc, b"name"),
        struct.pack(">BBHII", 0x81, 206, 2, ssrc, 1),
        struct.pack(">BBHIBBHQ", 0x80, 207, 4, ssrc, 4, 0, 2, 1),
    )
