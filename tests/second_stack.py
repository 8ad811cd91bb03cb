"""Sends traps and informs with pysnmp, the second SNMP stack that the agent must understand.

    second_stack.py ADDRESS PORT AUTH_PASSPHRASE PRIVACY_PASSPHRASE < lines of: NAME AUTH PRIVACY

AUTH and PRIVACY are named as in the agent's configuration, "-" for none. Of each user it sends one trap and one inform, and of community
"public" a trap by SNMPv1 and SNMPv2c and an inform. It prints a line for each inform: the user,
then "answered" or the error.
"""

import asyncio
import sys

from pysnmp.hlapi.v3arch import asyncio as snmp

AUTH = {
    "MD5": snmp.USM_AUTH_HMAC96_MD5,
    "SHA": snmp.USM_AUTH_HMAC96_SHA,
    "SHA-224": snmp.USM_AUTH_HMAC128_SHA224,
    "SHA-256": snmp.USM_AUTH_HMAC192_SHA256,
    "SHA-384": snmp.USM_AUTH_HMAC256_SHA384,
    "SHA-512": snmp.USM_AUTH_HMAC384_SHA512,
}
# "-C" is the way that Cisco's devices make a key longer: Reeder's.
PRIVACY = {
    "DES": snmp.USM_PRIV_CBC56_DES,
    "AES": snmp.USM_PRIV_CFB128_AES,
    "AES-192": snmp.USM_PRIV_CFB192_AES_BLUMENTHAL,
    "AES-256": snmp.USM_PRIV_CFB256_AES_BLUMENTHAL,
    "AES-192-C": snmp.USM_PRIV_CFB192_AES,
    "AES-256-C": snmp.USM_PRIV_CFB256_AES,
}


def user(name, auth, privacy, passphrases):
    keys = {}
    if auth != "-":
        keys.update(authKey=passphrases[0], authProtocol=AUTH[auth])
    if privacy != "-":
        keys.update(privKey=passphrases[1], privProtocol=PRIVACY[privacy])
    return snmp.UsmUserData(name, **keys)


async def send(engine, target, who, kind, if_index):
    # linkDown with ifIndex, each of an interface of its own.
    return await snmp.send_notification(
        engine, who, target, snmp.ContextData(), kind,
        snmp.ObjectType(snmp.ObjectIdentity("1.3.6.1.2.1.1.3.0"), snmp.TimeTicks(if_index)),
        snmp.ObjectType(snmp.ObjectIdentity("1.3.6.1.6.3.1.1.4.1.0"),
                        snmp.ObjectIdentifier("1.3.6.1.6.3.1.1.5.3")),
        snmp.ObjectType(snmp.ObjectIdentity(f"1.3.6.1.2.1.2.2.1.1.{if_index}"),
                        snmp.Integer32(if_index)),
        lookupMib=False,
    )


async def main(address, port, passphrases, users):
    senders = [("v1", snmp.CommunityData("public", mpModel=0)),
               ("v2c", snmp.CommunityData("public", mpModel=1))]
    senders += [(name, user(name, auth, privacy, passphrases)) for name, auth, privacy in users]
    # An ID of the kind "octets" (RFC 3411, section 5).
    engine = snmp.SnmpEngine(snmp.OctetString(bytes.fromhex("80001f8805") + b"second"))
    for number, (name, who) in enumerate(senders):
        # A notification goes to every target with the tag that it is for, so each sender has one.
        target = await snmp.UdpTransportTarget.create(
            (address, port), timeout=2, retries=2, tagList=f"tag{number}")
        await send(engine, target, who, "trap", 1000 + number)
        if name != "v1":
            error, status, _, _ = await send(engine, target, who, "inform", 2000 + number)
            print(name, error or (f"error-status {status}" if status else "answered"), flush=True)
    engine.close_dispatcher()


lines = [line.split() for line in sys.stdin if line.strip()]
asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3:5], lines))
