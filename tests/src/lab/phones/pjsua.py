"""PJSIP by its Python face: one telephone, configured by a JSON file, told what to do by lines on its standard input.
IPv4 alone: the library that PyPI has is built without IPv6."""

import json
import os
import select
import sys

import pjsua2 as pj

settings = json.load(open(sys.argv[1]))
calls = []


def say(*words):
    print(*words, flush=True)


class Call(pj.Call):
    def __init__(self, account, number=-1):
        pj.Call.__init__(self, account, number)
        self.account = account
        calls.append(self)

    def onCallState(self, _):
        info = self.getInfo()
        say("CALL", info.stateText, info.lastStatusCode)
        if info.state == pj.PJSIP_INV_STATE_DISCONNECTED and self in calls:
            calls.remove(self)

    def onCallMediaState(self, _):
        # Kept in a name: what it holds dies with it.
        info = self.getInfo()
        for index, media in enumerate(info.media):
            if media.type == pj.PJMEDIA_TYPE_AUDIO and media.status == pj.PJSUA_CALL_MEDIA_ACTIVE:
                audio = self.getAudioMedia(index)
                player.startTransmit(audio)
                audio.startTransmit(recorder)

    # Without an object of its own the new call shares that of the old one, which ends both.
    def onCallTransferRequest(self, request):
        request.newCall = Call(self.account)

    def onCallReplaceRequest(self, request):
        request.newCall = Call(self.account)

    def onCallTransferStatus(self, status):
        say("TRANSFER", status.statusCode, status.reason)
        # Whoever transferred and hears that it was done leaves.
        if status.statusCode // 100 == 2:
            self.hangup(pj.CallOpParam(True))


class Account(pj.Account):
    def onRegState(self, state):
        say("REGISTERED" if state.code == 200 and state.expiration > 0 else "REGISTRATION", state.code)

    def onIncomingCall(self, incoming):
        call = Call(self, incoming.callId)
        answer(call, {"at once": 200, "when told": 180, "early media": 183}[settings["answers"]])


def answer(call, status):
    parameters = pj.CallOpParam()
    parameters.statusCode = status
    call.answer(parameters)


def obey(line):
    verb, _, rest = line.strip().partition(" ")
    parameters = pj.CallOpParam(True)
    if verb in ("dial", "consult"):
        Call(account).makeCall(rest, parameters)
    elif verb == "accept":
        answer(calls[0], 200)
    elif verb == "hangup":
        parameters.statusCode = 603
        for call in list(calls):
            call.hangup(parameters)
    elif verb == "hold":
        calls[0].setHold(parameters)
    elif verb == "resume":
        parameters.opt.flag = pj.PJSUA_CALL_UNHOLD
        calls[0].reinvite(parameters)
    elif verb == "transfer":
        calls[0].xfer(rest, parameters)
    elif verb == "join":
        calls[0].xferReplaces(calls[1], parameters)
    return verb != "quit"


endpoint = pj.Endpoint()
endpoint.libCreate()
general = pj.EpConfig()
general.uaConfig.threadCnt = 0
general.uaConfig.mainThreadOnly = True
general.logConfig.level = 5
general.logConfig.consoleLevel = 5
general.medConfig.clockRate = 8000
general.medConfig.sndClockRate = 8000
general.medConfig.noVad = True
endpoint.libInit(general)

way = pj.TransportConfig()
way.port = settings["sip_port"]
way.boundAddress = settings["address"]
way.tlsConfig.CaListFile = settings["ca"]
way.tlsConfig.verifyServer = True
endpoint.transportCreate(getattr(pj, "PJSIP_TRANSPORT_" + settings["over"].upper()), way)
endpoint.libStart()
endpoint.audDevManager().setNullDev()
for codec in endpoint.codecEnum2():
    endpoint.codecSetPriority(codec.codecId, 255 if codec.codecId.startswith("PCM") else 0)

player = pj.AudioMediaPlayer()
player.createPlayer("tone.wav")
recorder = pj.AudioMediaRecorder()
recorder.createRecorder("heard.wav")

config = pj.AccountConfig()
config.idUri = "sip:%s@lab.test" % settings["number"]
config.regConfig.registrarUri = "sip:lab.test"
config.regConfig.timeoutSec = 300
config.sipConfig.proxies.append("<sip:%s;transport=%s;lr>" % (settings["server"], settings["over"]))
config.sipConfig.authCreds.append(
    pj.AuthCredInfo("digest", "*", settings["number"], 0, settings["password"])
)
config.mediaConfig.transportConfig.port = settings["media_port"]
config.mediaConfig.transportConfig.portRange = 98
config.mediaConfig.transportConfig.boundAddress = settings["address"]

if settings["over"] == "tls":
    config.mediaConfig.srtpUse = pj.PJMEDIA_SRTP_MANDATORY
    config.mediaConfig.srtpSecureSignaling = 1
config.callConfig.prackUse = pj.PJSUA_100REL_MANDATORY if settings["reliable"] else pj.PJSUA_100REL_NOT_USED
config.callConfig.timerUse = pj.PJSUA_SIP_TIMER_ALWAYS
config.callConfig.timerMinSESec = 90
config.callConfig.timerSessExpiresSec = 90
account = Account()
account.create(config)

pending = b""
going = True
while going:
    endpoint.libHandleEvents(10)
    while going and select.select([0], [], [], 0)[0]:
        more = os.read(0, 4096)
        pending += more
        going = bool(more)
        while going and b"\n" in pending:
            line, pending = pending.split(b"\n", 1)
            try:
                going = obey(line.decode())
            except (pj.Error, IndexError) as error:
                say("ERROR", line.decode(), error)
endpoint.libDestroy()
