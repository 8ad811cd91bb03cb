// A device that sends SNMPv2c traps, written down to the octets so that it may say what no library lets it.
import dgram from 'node:dgram';

const tlv = (tag, ...parts) => {
  const body = Buffer.concat(parts);
  const { length } = body;
  const head = length < 128 ? [tag, length]
    : length < 256 ? [tag, 0x81, length]
      : [tag, 0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from(head), body]);
};
const integer = (number) => tlv(2, Buffer.from([number >> 24, number >> 16, number >> 8, number].map((octet) => octet & 0xff)));
const octets = (text) => tlv(4, Buffer.isBuffer(text) ? text : Buffer.from(text));
const oid = (dotted) => {
  const [first, second, ...rest] = dotted.split('.').map(Number);
  const arcs = rest.flatMap((arc) => (arc < 128 ? [arc] : [0x80 | (arc >> 7), arc & 0x7f]));
  return tlv(6, Buffer.from([40 * first + second, ...arcs]));
};
const bound = (name, value) => tlv(0x30, oid(name), value);

const LINK = { down: '1.3.6.1.6.3.1.1.5.3', up: '1.3.6.1.6.3.1.1.5.4' };

export class Device {
  // One at this address, which sends to the agent at this port of 127.0.0.1.
  constructor(address, port) {
    this.port = port;
    this.request = Math.floor(Math.random() * 2 ** 30);
    this.began = Date.now();
    this.socket = dgram.createSocket('udp4');
    this.ready = new Promise((done) => this.socket.bind(0, address, done));
  }

  async send(datagram) {
    await this.ready;
    await new Promise((done, failed) => this.socket.send(datagram, this.port, '127.0.0.1', (error) => (error ? failed(error) : done())));
  }

  // A linkDown or linkUp of an ifIndex, with an ifDescr if one is given. Returns the moment of sending.
  async link(which, index, { describes, community = 'public' } = {}) {
    this.request += 1;
    const ticks = Buffer.alloc(4);
    ticks.writeUInt32BE(Math.floor((Date.now() - this.began) / 10) + this.request % 7);
    const bindings = [
      bound('1.3.6.1.2.1.1.3.0', tlv(0x43, ticks)),
      bound('1.3.6.1.6.3.1.1.4.1.0', oid(LINK[which])),
      bound(`1.3.6.1.2.1.2.2.1.1.${index}`, integer(index)),
    ];
    if (describes !== undefined) bindings.push(bound(`1.3.6.1.2.1.2.2.1.2.${index}`, octets(describes)));
    const pdu = tlv(0xa7, integer(this.request), integer(0), integer(0), tlv(0x30, ...bindings));
    const message = tlv(0x30, integer(1), octets(community), pdu);
    const at = performance.now();
    await this.send(message);
    return at;
  }

  close() {
    this.socket.close();
  }
}
