"""A Proxy Mobile IPv6 peer, whose messages scapy builds.

    mobility_peer.py OWN_ADDRESS AGENT_ADDRESS < commands

It answers heartbeats and does what each line on its standard input says:

    answer yes|no      whether it answers
    counter NUMBER     what its restart counter is from now on; "none" leaves the option out
    spoil HOW          what is wrong with its answers: nothing, checksum, sequence, short
    request SEQUENCE   sends a heartbeat request
    unsolicited        sends an unsolicited heartbeat response
    error STATUS       sends a Binding Error

It prints a JSON object on a line for each message that it gets, one when it listens, and one for each
command that it has done: the next may be given then. Over IPv6 it has the checksum computed by scapy's
own code.
"""

import json
import selectors
import socket
import struct
import sys

from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6, MIP6MH_BE, MIP6MH_Generic, MIP6OptUnknown, PadN, in6_chksum
from scapy.packet import Raw, raw

MOBILITY, PORT, HEARTBEAT = 135, 5436, 13
UNSOLICITED, RESPONSE = 2, 1
RESTART_COUNTER = 28

own, agent = sys.argv[1], sys.argv[2]
v4 = "." in own


def header(flags, sequence, counter):
    """A Heartbeat with the options at their places (RFC 5847)."""
    options = b""
    if counter is not None:
        options += raw(PadN(otype=1, optdata=b""))
        options += raw(MIP6OptUnknown(otype=RESTART_COUNTER, odata=struct.pack("!I", counter)))
    options += raw(PadN(otype=1, optdata=b"\0\0"))
    body = struct.pack("!HI", flags, sequence % 2**32) + options
    return MIP6MH_Generic(mhtype=HEARTBEAT, res=0, msg=body)


def send(message, spoil="nothing"):
    """Sends a whole packet that scapy built, whatever is wrong with it."""
    # A checksum that scapy computes needs the addresses.
    octets = raw(IPv6(src=own, dst=agent) / message)[40:] if not v4 else None
    if v4:
        message.cksum = 0
        octets = raw(message)
    if spoil == "short":
        octets = octets[:10]
    if spoil == "checksum" and not v4:
        octets = octets[:4] + bytes([octets[4] ^ 0x55]) + octets[5:]
    if v4:
        packet = IP(src=own, dst=agent) / UDP(sport=PORT, dport=PORT) / Raw(octets)
        sender.sendto(raw(packet), (agent, 0))
    else:
        packet = IPv6(src=own, dst=agent, nh=MOBILITY) / Raw(octets)
        sender.sendto(raw(packet), (agent, 0))


def read(octets, source, destination):
    """What a message says, as scapy takes it apart."""
    packet = MIP6MH_Generic(octets)
    # scapy 2.8 takes the message for 8 octets shorter than it is, and the rest for a payload.
    body = packet.msg + raw(packet.payload)
    flags, sequence = struct.unpack("!HI", body[:6])
    counter, rest = None, body[6:]
    while rest:
        if rest[0] == 0:
            rest = rest[1:]
            continue
        if rest[0] == RESTART_COUNTER:
            (counter,) = struct.unpack("!I", rest[2:6])
        rest = rest[2 + rest[1] :]
    if v4:
        # The field is not used over UDP.
        checksum = packet.cksum == 0
    else:
        checksum = in6_chksum(MOBILITY, IPv6(src=source, dst=destination), octets) == 0
    return {
        "got": "response" if flags & RESPONSE else "request",
        "unsolicited": bool(flags & UNSOLICITED),
        "type": packet.mhtype,
        "sequence": sequence,
        "counter": counter,
        "source": source,
        "checksum": checksum,
        "whole": 8 * (packet.len + 1) == len(octets),
    }


def tell(what):
    print(json.dumps(what), flush=True)


if v4:
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.bind((own, PORT))
    sender = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
else:
    receiver = socket.socket(socket.AF_INET6, socket.SOCK_RAW, MOBILITY)
    receiver.bind((own, 0))
    sender = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)

answering, counter, spoil = True, 1, "nothing"
selector = selectors.DefaultSelector()
selector.register(receiver, selectors.EVENT_READ)
selector.register(sys.stdin, selectors.EVENT_READ)
tell({"got": "ready"})
while True:
    ready = [key.fileobj for key, _ in selector.select()]
    if sys.stdin in ready:
        line = sys.stdin.readline()
        if not line:
            break
        command, *value = line.split()
        if command == "answer":
            answering = value[0] == "yes"
        elif command == "counter":
            counter = None if value[0] == "none" else int(value[0])
        elif command == "spoil":
            spoil = value[0]
        elif command == "request":
            send(header(0, int(value[0]), None))
        elif command == "unsolicited":
            send(header(UNSOLICITED | RESPONSE, 0, counter))
        elif command == "error":
            send(MIP6MH_BE(status=int(value[0])))
        tell({"got": "command", "line": line.strip()})
    if receiver in ready:
        octets, source = receiver.recvfrom(4096)
        message = read(octets, source[0], own)
        tell(message)
        if message["got"] == "request" and answering:
            sequence = message["sequence"] + (1000 if spoil == "sequence" else 0)
            send(header(RESPONSE, sequence, counter), spoil)
