"""
What the gateway uses of pjsua2 2.15 to 2.16, with its types: the wheel has none.

Written by hand from ``pjsip/include/pjsua2/*.hpp`` of pjproject; ``tests/unit/sip/library/test_stub.py`` compares it
with the module that is installed. Strings are UTF-8 with surrogates for bytes that are none. What the binding returns
of a structure lives no longer than the structure, so hold the whole while a part is read.
"""

from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

_T = TypeVar("_T")

INVALID_ID: int
PJMEDIA_DIR_DECODING: int
PJMEDIA_DIR_ENCODING: int
PJMEDIA_FORMAT_PCM: int
PJMEDIA_FRAME_TYPE_AUDIO: int
PJMEDIA_FRAME_TYPE_NONE: int
PJMEDIA_SRTP_DISABLED: int
PJMEDIA_SRTP_KEYING_SDES: int
PJMEDIA_SRTP_MANDATORY: int
PJMEDIA_SRTP_OPTIONAL: int
PJMEDIA_TYPE_AUDIO: int
PJSIP_EVENT_RX_MSG: int
PJSIP_EVENT_TIMER: int
PJSIP_EVENT_TSX_STATE: int
PJSIP_INV_STATE_CONFIRMED: int
PJSIP_INV_STATE_CONNECTING: int
PJSIP_INV_STATE_DISCONNECTED: int
PJSIP_INV_STATE_EARLY: int
PJSIP_ROLE_UAC: int
PJSIP_ROLE_UAS: int
PJSIP_SC_BAD_REQUEST: int
PJSIP_SC_BUSY_HERE: int
PJSIP_SC_DECLINE: int
PJSIP_SC_INTERNAL_SERVER_ERROR: int
PJSIP_SC_NOT_ACCEPTABLE_HERE: int
PJSIP_SC_OK: int
PJSIP_SC_PROGRESS: int
PJSIP_SC_REQUEST_PENDING: int
PJSIP_SC_REQUEST_TERMINATED: int
PJSIP_SC_REQUEST_TIMEOUT: int
PJSIP_SC_RINGING: int
PJSIP_SC_SERVICE_UNAVAILABLE: int
PJSIP_TP_STATE_DISCONNECTED: int
PJSIP_TRANSPORT_TCP: int
PJSIP_TRANSPORT_TLS: int
PJSIP_TRANSPORT_UDP: int
PJSIP_TSX_STATE_TRYING: int
PJSUA_100REL_MANDATORY: int
PJSUA_100REL_NOT_USED: int
PJSUA_100REL_OPTIONAL: int
PJSUA_CALL_MEDIA_ACTIVE: int
PJSUA_CALL_MEDIA_REMOTE_HOLD: int
PJSUA_DTMF_METHOD_RFC2833: int
PJSUA_DTMF_METHOD_SIP_INFO: int
PJSUA_SIP_TIMER_INACTIVE: int
PJSUA_SIP_TIMER_OPTIONAL: int
PJSUA_SIP_TIMER_REQUIRED: int
PJ_SSL_SOCK_PROTO_TLS1_2: int

class Error(Exception):
    status: int
    title: str
    reason: str
    srcFile: str
    srcLine: int
    def __init__(self, status: int, title: str, reason: str, src_file: str, src_line: int) -> None: ...

class _Vector(Generic[_T]):
    """A ``std::vector`` of the binding; not a class of the module."""

    def __iter__(self) -> Iterator[_T]: ...
    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> _T: ...
    def append(self, value: _T) -> None: ...

class IntVector(_Vector[int]):
    def __init__(self, values: Iterable[int] = ...) -> None: ...

class ByteVector(_Vector[int]):
    this: _Pointer
    def __init__(self, values: bytes = ...) -> None: ...
    def size(self) -> int: ...
    def resize(self, size: int) -> None: ...
    # Of 2.16 and later.
    def copy_to_bytearray(self, into: bytearray) -> None: ...
    def assign_from_bytes(self, data: bytes) -> None: ...

class _Pointer:
    """A ``SwigPyObject``: the address of what C++ holds; not a class of the module."""

    def __int__(self) -> int: ...
    def disown(self) -> bool: ...

# --- messages and events ---

class SipRxData:
    info: str
    wholeMsg: str
    srcAddress: str
    pjRxData: _Pointer
    this: _Pointer

class SipTxData:
    info: str
    wholeMsg: str
    dstAddress: str
    pjTxData: _Pointer
    this: _Pointer

class SipHeader:
    hName: str
    hValue: str

class SipTxOption:
    targetUri: str
    localUri: str
    headers: _Vector[SipHeader]
    contentType: str
    msgBody: str

class SipTransaction:
    role: int
    method: str
    statusCode: int
    state: int

class TsxStateEventSrc:
    rdata: SipRxData

class TsxStateEvent:
    src: TsxStateEventSrc
    tsx: SipTransaction
    prevState: int
    type: int

class SipEventBody:
    tsxState: TsxStateEvent

class SipEvent:
    type: int
    body: SipEventBody

class SdpSession:
    wholeSdp: str

# --- parameters of callbacks ---

class OnIncomingCallParam:
    callId: int
    rdata: SipRxData

class OnRegStateParam:
    status: int
    code: int
    reason: str
    rdata: SipRxData
    expiration: int

class OnCallStateParam:
    e: SipEvent

class OnCallTsxStateParam:
    e: SipEvent

class OnCallMediaStateParam: ...

class OnCallSdpCreatedParam:
    sdp: SdpSession
    remSdp: SdpSession

class OnCallRxReinviteParam:
    offer: SdpSession
    rdata: SipRxData
    isAsync: bool
    statusCode: int

class OnCallRxOfferParam:
    offer: SdpSession
    statusCode: int

class OnCallTransferRequestParam:
    dstUri: str
    statusCode: int

class OnCallReplaceRequestParam:
    rdata: SipRxData
    statusCode: int
    reason: str

class OnCallTransferStatusParam:
    statusCode: int
    reason: str
    finalNotify: bool
    cont: bool

class StreamInfo:
    remoteRtpAddress: str
    remoteRtcpAddress: str
    codecName: str
    codecClockRate: int

class OnStreamPreCreateParam:
    streamIdx: int
    streamInfo: StreamInfo

class OnStreamCreatedParam:
    stream: _Pointer
    streamIdx: int

class OnStreamDestroyedParam:
    stream: _Pointer
    streamIdx: int

class OnDtmfEventParam:
    method: int
    timestamp: int
    digit: str
    duration: int
    flags: int

class OnSelectAccountParam:
    rdata: SipRxData
    accountIndex: int

class OnTransportStateParam:
    state: int
    lastError: int

# --- media ---

class MediaFormatAudio:
    clockRate: int
    channelCount: int
    def init(self, format_id: int, clock_rate: int, channels: int, frame_us: int, sample_bits: int) -> None: ...

class MediaFrame:
    type: int
    buf: ByteVector
    size: int

class AudioMedia:
    def getPortId(self) -> int: ...
    def startTransmit(self, sink: AudioMedia) -> None: ...
    def stopTransmit(self, sink: AudioMedia) -> None: ...

class AudioMediaPort(AudioMedia):
    def createPort(self, name: str, fmt: MediaFormatAudio) -> None: ...
    def onFrameRequested(self, frame: MediaFrame) -> None: ...
    def onFrameReceived(self, frame: MediaFrame) -> None: ...

class MathStat:
    n: int
    mean: int

class RtcpStreamStat:
    updateCount: int
    pkt: int
    loss: int
    reorder: int
    jitterUsec: MathStat

class RtcpStat:
    txStat: RtcpStreamStat
    rxStat: RtcpStreamStat
    rttUsec: MathStat

class JbufState:
    minPrefetch: int
    size: int
    avgDelayMsec: int
    lost: int
    discard: int
    empty: int

class StreamStat:
    rtcp: RtcpStat
    jbuf: JbufState

class MediaTransportInfo:
    localRtpName: str
    localRtcpName: str

class CallMediaInfo:
    index: int
    type: int
    dir: int
    status: int
    audioConfSlot: int

# --- calls and accounts ---

class CallInfo:
    id: int
    role: int
    localUri: str
    remoteUri: str
    callIdString: str
    state: int
    lastStatusCode: int
    lastReason: str
    media: _Vector[CallMediaInfo]

class CallOpParam:
    statusCode: int
    reason: str
    options: int
    txOption: SipTxOption
    def __init__(self, use_default_call_setting: bool = ...) -> None: ...

class CallSendDtmfParam:
    method: int
    duration: int
    digits: str

class Call:
    def __init__(self, account: Account, call_id: int = ...) -> None: ...
    def getInfo(self) -> CallInfo: ...
    def getId(self) -> int: ...
    def getAudioMedia(self, index: int) -> AudioMedia: ...
    def getStreamInfo(self, index: int) -> StreamInfo: ...
    def getStreamStat(self, index: int) -> StreamStat: ...
    def getMedTransportInfo(self, index: int) -> MediaTransportInfo: ...
    def makeCall(self, uri: str, parameters: CallOpParam) -> None: ...
    def answer(self, parameters: CallOpParam) -> None: ...
    def hangup(self, parameters: CallOpParam) -> None: ...
    def reinvite(self, parameters: CallOpParam) -> None: ...
    def xfer(self, target: str, parameters: CallOpParam) -> None: ...
    def dialDtmf(self, digits: str) -> None: ...
    def sendDtmf(self, parameters: CallSendDtmfParam) -> None: ...
    def onCallState(self, prm: OnCallStateParam) -> None: ...
    def onCallTsxState(self, prm: OnCallTsxStateParam) -> None: ...
    def onCallMediaState(self, prm: OnCallMediaStateParam) -> None: ...
    def onCallSdpCreated(self, prm: OnCallSdpCreatedParam) -> None: ...
    def onCallRxReinvite(self, prm: OnCallRxReinviteParam) -> None: ...
    def onCallRxOffer(self, prm: OnCallRxOfferParam) -> None: ...
    def onCallTransferRequest(self, prm: OnCallTransferRequestParam) -> None: ...
    def onCallTransferStatus(self, prm: OnCallTransferStatusParam) -> None: ...
    def onCallReplaceRequest(self, prm: OnCallReplaceRequestParam) -> None: ...
    def onStreamPreCreate(self, prm: OnStreamPreCreateParam) -> None: ...
    def onStreamCreated(self, prm: OnStreamCreatedParam) -> None: ...
    def onStreamDestroyed(self, prm: OnStreamDestroyedParam) -> None: ...
    def onDtmfEvent(self, prm: OnDtmfEventParam) -> None: ...

class Account:
    def create(self, config: AccountConfig, make_default: bool = ...) -> None: ...
    def shutdown(self) -> None: ...
    def getId(self) -> int: ...
    def setRegistration(self, renew: bool) -> None: ...
    def onIncomingCall(self, prm: OnIncomingCallParam) -> None: ...
    def onRegState(self, prm: OnRegStateParam) -> None: ...

class AuthCredInfo:
    def __init__(self, scheme: str, realm: str, user_name: str, data_type: int, data: str) -> None: ...

class AccountRegConfig:
    registrarUri: str
    registerOnAdd: bool
    timeoutSec: int
    retryIntervalSec: int
    firstRetryIntervalSec: int

class AccountSipConfig:
    authCreds: _Vector[AuthCredInfo]
    proxies: _Vector[str]

class AccountCallConfig:
    prackUse: int
    timerUse: int
    timerMinSESec: int
    timerSessExpiresSec: int

class AccountNatConfig:
    contactRewriteUse: int

class SrtpOpt:
    keyings: IntVector

class AccountMediaConfig:
    transportConfig: TransportConfig
    lockCodecEnabled: bool
    srtpUse: int
    srtpSecureSignaling: int
    srtpOpt: SrtpOpt

class AccountConfig:
    idUri: str
    regConfig: AccountRegConfig
    sipConfig: AccountSipConfig
    callConfig: AccountCallConfig
    natConfig: AccountNatConfig
    mediaConfig: AccountMediaConfig

# --- the endpoint ---

class LogEntry:
    level: int
    msg: str

class LogWriter:
    def write(self, entry: LogEntry) -> None: ...

class UaConfig:
    maxCalls: int
    threadCnt: int
    mainThreadOnly: bool
    userAgent: str

class LogConfig:
    msgLogging: int
    level: int
    consoleLevel: int
    decor: int
    writer: LogWriter

class MediaConfig:
    clockRate: int
    sndClockRate: int
    audioFramePtime: int
    noVad: bool
    ecTailLen: int
    jbInit: int
    jbMinPre: int
    jbMaxPre: int
    jbMax: int
    jbDiscardAlgo: _Pointer

class EpConfig:
    uaConfig: UaConfig
    logConfig: LogConfig
    medConfig: MediaConfig

class TlsConfig:
    CaListFile: str
    certFile: str
    privKeyFile: str
    proto: int
    verifyServer: bool
    msecTimeout: int

class TransportConfig:
    port: int
    portRange: int
    publicAddress: str
    boundAddress: str
    tlsConfig: TlsConfig

class CodecInfo:
    codecId: str
    priority: int

class CodecParamSetting:
    frmPerPkt: int
    plc: bool

class CodecParam:
    setting: CodecParamSetting

class Version:
    full: str

class AudDevManager:
    def setNullDev(self) -> None: ...
    def setNoDev(self) -> None: ...

class Endpoint:
    def libCreate(self) -> None: ...
    def libInit(self, config: EpConfig) -> None: ...
    def libStart(self) -> None: ...
    def libHandleEvents(self, limit_ms: int) -> int: ...
    def libDestroy(self, flags: int = ...) -> None: ...
    def libVersion(self) -> Version: ...
    def transportCreate(self, kind: int, config: TransportConfig) -> int: ...
    def codecEnum2(self) -> _Vector[CodecInfo]: ...
    def codecSetPriority(self, codec_id: str, priority: int) -> None: ...
    def codecGetParam(self, codec_id: str) -> CodecParam: ...
    def codecSetParam(self, codec_id: str, parameters: CodecParam) -> None: ...
    def audDevManager(self) -> AudDevManager: ...
    def hangupAllCalls(self) -> None: ...
    def onSelectAccount(self, prm: OnSelectAccountParam) -> None: ...
    def onTransportState(self, prm: OnTransportStateParam) -> None: ...
