// Subnets of the agents' hosts, and remote peers: who answers, and how fast.

import { RowBuilder } from '@grafana/grafana-foundation-sdk/dashboard';

import { REACHABILITY } from './overview';
import * as p from './parts';
import { COLOUR, increase, of, rate } from './parts';

const IN_GROUP = 'group=~"$group"';
const FLOW = 'instance, subnet, interface, local, polled';
const FLOW_NAME = '{{local}} > {{polled}} by {{interface}}';

const peers = (states: string) => `sum(${of('evenkeel_peers', `${IN_GROUP},state=~"${states}"`)}) or vector(0)`;

export function reachability() {
  return p
    .board(
      REACHABILITY,
      'Subnets and peers',
      'Who answers and how fast: the subnets of the agents\' hosts, and remote peers in groups.',
      ['group'],
    )
    .withRow(new RowBuilder('Now'))
    .withPanel(
      p.tile({
        title: 'Subnets down',
        description: 'Subnets that no interface of the host carries at the IP level.',
        unit: 'short',
        queries: [{ expr: `count(${of('evenkeel_subnet_up')} == 0) or vector(0)` }],
        width: 4,
        steps: p.fromOneOn(COLOUR.critical),
      }),
    )
    .withPanel(
      p.tile({
        title: 'Flows down',
        description: 'Pairs of a local address and a polled one of which four polls in a row were not answered.',
        unit: 'short',
        queries: [{ expr: `count(${of('evenkeel_flow_up')} == 0) or vector(0)` }],
        width: 4,
        steps: p.fromOneOn(COLOUR.major),
      }),
    )
    .withPanel(
      p.tile({
        title: 'Peers alive',
        description: 'Peers that answered their latest heartbeat.',
        unit: 'short',
        queries: [{ expr: peers('alive') }],
        width: 4,
        steps: [[null, COLOUR.good]],
      }),
    )
    .withPanel(
      p.tile({
        title: 'Peers silent',
        description: 'Peers that did not answer and are being tried again.',
        unit: 'short',
        queries: [{ expr: peers('silent') }],
        width: 4,
        steps: p.fromOneOn(COLOUR.minor),
      }),
    )
    .withPanel(
      p.tile({
        title: 'Peers down',
        description: 'Peers that answered none of their tries.',
        unit: 'short',
        queries: [{ expr: peers('down') }],
        width: 4,
        steps: p.fromOneOn(COLOUR.major),
      }),
    )
    .withPanel(
      p.tile({
        title: 'Mass silence',
        description:
          'Agents of whose peers more than a tenth are silent at once. Look for a fault near the agent first; until it is over, peers are found down after minutes instead of seconds.',
        unit: 'short',
        queries: [{ expr: `sum(${of('evenkeel_peers_mass_silence')}) or vector(0)` }],
        width: 4,
        steps: p.fromOneOn(COLOUR.critical),
      }),
    )
    .withRow(new RowBuilder('Subnets'))
    .withPanel(
      p.states({
        title: 'Subnets',
        description: 'Whether each subnet is carried at the IP level. A gap: nothing is known yet.',
        unit: 'short',
        queries: [
          {
            expr: `min by (instance, subnet) (${of('evenkeel_subnet_up')})`,
            legend: '{{subnet}} of {{instance}}',
          },
        ],
        width: 12,
        mappings: p.UP_OR_DOWN,
        links: [p.toStatusPage()],
        noValue: 'No subnet is monitored.',
      }),
    )
    .withPanel(
      p.states({
        title: 'Interfaces',
        description: 'Whether each interface works at the IP level on its subnet, whatever its link says.',
        unit: 'short',
        queries: [
          {
            expr: `min by (instance, subnet, interface) (${of('evenkeel_interface_ip_up')})`,
            legend: '{{interface}} on {{subnet}}, {{instance}}',
          },
        ],
        width: 12,
        mappings: p.UP_OR_DOWN,
        links: [p.toStatusPage()],
        noValue: 'No subnet is monitored.',
      }),
    )
    .withPanel(
      p.table({
        title: 'Flows now',
        description: 'Each flow with its latest round-trip time and its polls since the start of the agent.',
        unit: 'short',
        queries: [
          { expr: `max by (${FLOW}) (${of('evenkeel_flow_up')})` },
          { expr: `max by (${FLOW}) (${of('evenkeel_flow_round_trip_seconds')})` },
          { expr: `max by (${FLOW}) (${of('evenkeel_flow_polls_total')})` },
          { expr: `max by (${FLOW}) (${of('evenkeel_flow_missed_total')})` },
          { expr: `max by (${FLOW}) (${of('evenkeel_flow_inconclusive_total')})` },
        ],
        width: 24,
        height: 6,
        links: [p.toStatusPage('row')],
        columns: [
          { field: 'instance', heading: 'agent' },
          { field: 'subnet', heading: 'subnet' },
          { field: 'interface', heading: 'interface' },
          { field: 'local', heading: 'from' },
          { field: 'polled', heading: 'to' },
          { field: 'Value #A', heading: 'up', unit: 'bool_yes_no' },
          { field: 'Value #B', heading: 'round trip', unit: 's' },
          { field: 'Value #C', heading: 'polls' },
          { field: 'Value #D', heading: 'missed' },
          { field: 'Value #E', heading: 'inconclusive' },
        ],
      }),
    )
    .withPanel(
      p.lines({
        title: 'Missed polls',
        description:
          'The share of polls without a reply in time. Below four in a row the subnet stays up; a share that stays above 0 is loss on the subnet.',
        unit: 'percentunit',
        queries: [
          {
            expr: `sum by (${FLOW}) (${rate('evenkeel_flow_missed_total')})
                   / sum by (${FLOW}) (${rate('evenkeel_flow_polls_total')})`,
            legend: FLOW_NAME,
          },
        ],
        width: 12,
        links: [p.toStatusPage()],
      })
        .min(0)
        .max(1),
    )
    .withPanel(
      p.lines({
        title: 'Round-trip time of polls',
        description: 'Of the latest answered poll of each flow.',
        unit: 's',
        queries: [
          { expr: `max by (${FLOW}) (${of('evenkeel_flow_round_trip_seconds')})`, legend: FLOW_NAME },
        ],
        width: 12,
        links: [p.toStatusPage()],
      }),
    )
    .withPanel(
      p.bars({
        title: 'Polls that said nothing',
        description:
          'Inconclusive: this host lost the poll or the agent stood still. Replies that were late, doubled or of nobody are counted here, too.',
        noValue: 'None.',
        unit: 'short',
        queries: [
          {
            expr: `sum by (instance) (${increase('evenkeel_flow_inconclusive_total')}) > 0`,
            legend: 'inconclusive at {{instance}}',
          },
          {
            expr: `sum by (outcome) (${increase('evenkeel_poll_replies_total', 'outcome!="answered"')}) > 0`,
            legend: 'reply: {{outcome}}',
          },
          {
            expr: `sum by (reason) (${increase('evenkeel_poll_replies_discarded_total')}) > 0`,
            legend: 'discarded: {{reason}}',
          },
          {
            expr: `sum by (instance) (${increase('evenkeel_reply_socket_drops_total')}) > 0`,
            legend: 'dropped by the kernel at {{instance}}',
          },
        ],
        width: 12,
      }),
    )
    .withPanel(
      p.states({
        title: 'Standby interfaces',
        description:
          'Whether a primary interface is disabled: IP failed on it and the subnet\'s addresses are on its standby. When it is mended: `evenkeel subnet enable`.',
        unit: 'short',
        queries: [
          {
            expr: `max by (instance, subnet, interface) (${of('evenkeel_interface_disabled')})`,
            legend: '{{interface}} on {{subnet}}, {{instance}}',
          },
          {
            expr: `sum by (instance, subnet) (${increase('evenkeel_standby_moves_total', 'result="failed"')}) > bool 0`,
            legend: 'moves on {{subnet}}, {{instance}}',
          },
        ],
        width: 12,
        mappings: p.words([
          [0, 'in use', COLOUR.good],
          [1, 'disabled or failed', COLOUR.critical],
        ]),
        links: [p.toStatusPage()],
        noValue: 'No subnet has a standby interface.',
      }),
    )
    .withRow(new RowBuilder('Peers'))
    .withPanel(
      p.coloured(
        p.stack({
          title: 'Peers by state',
          description:
            'Admitted peers of the chosen groups. Unsupported: such a peer knows no heartbeats.',
          unit: 'short',
          queries: [
            { expr: `sum by (state) (${of('evenkeel_peers', IN_GROUP)})`, legend: '{{state}}' },
          ],
          width: 12,
          links: [p.toStatusPage()],
      }),
        {
          alive: 'green',
          silent: 'yellow',
          down: 'red',
          unknown: 'blue',
          disabled: 'text',
          unsupported: 'purple',
        },
      ),
    )
    .withPanel(
      p.heat({
        title: 'Round-trip times of peers',
        description:
          'How many answers a second took how long. A second band above the first is another path or a busy site; a smear upwards is a queue.',
        unit: 's',
        queries: [
          {
            expr: `sum by (le) (${rate('evenkeel_peers_round_trip_seconds_bucket', IN_GROUP)})`,
            legend: '{{le}}',
          },
        ],
        width: 12,
        height: 8,
      }),
    )
    .withPanel(
      p.lines({
        title: 'Round-trip time, median and worst hundredth',
        description: 'By group, from the histogram beside it.',
        unit: 's',
        queries: [0.5, 0.99].map((quantile) => ({
          expr: `histogram_quantile(${quantile}, sum by (group, le) (
                   ${rate('evenkeel_peers_round_trip_seconds_bucket', IN_GROUP)}))`,
          legend: `{{group}}, ${quantile === 0.5 ? 'median' : '99 of 100 below'}`,
        })),
        width: 8,
      }),
    )
    .withPanel(
      p.lines({
        title: 'Silence',
        description:
          'The share of requests without an answer in time, by group, and of those tried again now. A tenth of all peers silent at once is mass silence.',
        unit: 'percentunit',
        queries: [
          {
            expr: `sum by (group) (${rate('evenkeel_peers_unanswered_total', IN_GROUP)})
                   / sum by (group) (${rate('evenkeel_peers_requests_total', IN_GROUP)})`,
            legend: '{{group}}, unanswered',
          },
          {
            expr: `sum by (instance) (${of('evenkeel_peers_silent')})
                   / sum by (instance) (${of('evenkeel_peers_admitted')})`,
            legend: '{{instance}}, silent of all',
          },
        ],
        width: 8,
        steps: [
          [null, COLOUR.good],
          [0.1, COLOUR.critical],
        ],
        links: [p.toStatusPage()],
      }).min(0),
    )
    .withPanel(
      p.lines({
        title: 'Time of a sweep',
        description:
          'From the first to the last heartbeat of the latest whole sweep of a group: as long as its interval, if the agent keeps up.',
        unit: 's',
        queries: [
          {
            expr: `max by (instance, group) (${of('evenkeel_peers_sweep_seconds', IN_GROUP)})`,
            legend: '{{group}} at {{instance}}',
          },
        ],
        width: 8,
        links: [p.toStatusPage()],
      }),
    )
    .withPanel(
      p.lines({
        title: 'Requests and answers',
        description: 'Heartbeats, requests that were sent again, and answers that counted, by group.',
        unit: 'suffix:/s',
        queries: [
          {
            expr: `sum by (group, list) (${rate('evenkeel_peers_requests_total', IN_GROUP)})`,
            legend: '{{group}}, {{list}}',
          },
          {
            expr: `sum by (group) (${rate('evenkeel_peers_answers_total', IN_GROUP)})`,
            legend: '{{group}}, answers',
          },
        ],
        width: 8,
      }),
    )
    .withPanel(
      p.bars({
        title: 'Found down, found restarted',
        description: 'Path failures by group: no_answer is a peer found down, restart one that says that it had restarted.',
        noValue: 'None.',
        unit: 'short',
        queries: [
          {
            expr: `sum by (group, reason) (${increase('evenkeel_peers_path_failures_total', IN_GROUP)}) > 0`,
            legend: '{{group}}, {{reason}}',
          },
        ],
        width: 8,
      }),
    )
    .withPanel(
      p.bars({
        title: 'Inconclusive',
        description:
          'Requests without an answer that say nothing of the peer, as this host was to blame, by reason. Nobody is found down for them; agent/peers/README.md says what to do for each.',
        noValue: 'None.',
        unit: 'short',
        queries: [
          {
            expr: `sum by (group, reason) (${increase('evenkeel_peers_inconclusive_total', IN_GROUP)}) > 0`,
            legend: '{{group}}, {{reason}}',
          },
        ],
        width: 8,
      }),
    )
    .withPanel(
      p.lines({
        title: 'Known and monitored',
        description:
          'Peers that are monitored, the limit of the group, and those known and not monitored: raise monitor_max_peers for them.',
        unit: 'short',
        queries: [
          {
            expr: `sum by (group) (${of('evenkeel_peers_admitted', IN_GROUP)})`,
            legend: '{{group}}, monitored',
          },
          {
            expr: `sum by (group) (${of('evenkeel_peers_refused', IN_GROUP)})`,
            legend: '{{group}}, not monitored',
          },
          {
            expr: `min by (group) (${of('evenkeel_peers_limit', IN_GROUP)})`,
            legend: '{{group}}, limit',
          },
        ],
        width: 8,
      }),
    )
    .withPanel(
      p.lines({
        title: 'How late batches leave',
        description:
          'Of 100 batches of heartbeats 99 leave less late than this. Above 0.1 s the agent gets too little CPU.',
        unit: 's',
        queries: [
          {
            expr: `histogram_quantile(0.99, sum by (instance, le) (
                     ${rate('evenkeel_peers_batch_lateness_seconds_bucket')}))`,
            legend: '{{instance}}',
          },
        ],
        width: 8,
        steps: [
          [null, COLOUR.good],
          [0.1, COLOUR.critical],
        ],
        links: [p.toStatusPage()],
      }),
    )
    .withPanel(
      p.bars({
        title: 'Lost, skipped and discarded',
        description:
          'Answers that the kernel dropped (raise peers.receive_buffer), heartbeats that never left, requests that the kernel did not take, and answers that counted for nothing.',
        noValue: 'Nothing.',
        unit: 'short',
        queries: [
          {
            expr: `sum by (instance, source) (${increase('evenkeel_peers_socket_drops_total')}) > 0`,
            legend: 'dropped by the kernel at {{instance}}, {{source}}',
          },
          {
            expr: `sum by (instance) (${increase('evenkeel_peers_heartbeats_skipped_total')}) > 0`,
            legend: 'skipped at {{instance}}',
          },
          {
            expr: `sum by (error) (${increase('evenkeel_peers_send_errors_total')}) > 0`,
            legend: 'not sent: {{error}}',
          },
          {
            expr: `sum by (reason) (${increase('evenkeel_peers_answers_discarded_total')}) > 0`,
            legend: 'discarded: {{reason}}',
          },
        ],
        width: 8,
      }),
    )
    .withPanel(
      p.bars({
        title: 'Mobility messages',
        description:
          'Of peers that are asked by Proxy Mobile IPv6: sent, received, their own requests answered, limited or failed, and what was lost.',
        unit: 'short',
        queries: [
          {
            expr: `sum by (event) (${increase('evenkeel_peers_mobility_messages_total')}) > 0`,
            legend: '{{event}}',
          },
        ],
        width: 8,
        noValue: 'No peer is asked so.',
      }),
    )
    .withPanel(
      p.lines({
        title: 'Files that name peers',
        description:
          'How many there are, and how many of them are bad or unreadable: whom those named before stays monitored.',
        unit: 'short',
        queries: [
          { expr: `sum by (instance) (${of('evenkeel_peers_files')})`, legend: 'files, {{instance}}' },
          {
            expr: `sum by (instance) (${of('evenkeel_peers_files_failed')})`,
            legend: 'bad, {{instance}}',
          },
          {
            expr: `sum by (instance, result) (${increase('evenkeel_peers_file_readings_total')}) > 0`,
            legend: 'read: {{result}}, {{instance}}',
          },
        ],
        width: 8,
        links: [p.toStatusPage()],
      }),
    )
    .withPanel(
      p.lines({
        title: 'Findings that wait',
        description: 'Raises and clears of peers that wait to be told, as at most 1,000 a second are.',
        unit: 'short',
        queries: [
          { expr: `sum by (instance) (${of('evenkeel_peers_findings_waiting')})`, legend: '{{instance}}' },
        ],
        width: 8,
        links: [p.toStatusPage()],
      }),
    )
    .withPanel(
      p.lines({
        title: 'Sockets of the peer monitor',
        description: 'Requests that left by each socket, and messages that passed the kernel\'s filter.',
        unit: 'suffix:/s',
        queries: [
          {
            expr: `sum by (instance, family, kind, source) (${rate('evenkeel_peers_socket_sent_total')})`,
            legend: 'sent, {{family}} {{kind}}, {{instance}}',
          },
          {
            expr: `sum by (instance, family, kind, source) (${rate('evenkeel_peers_socket_received_total')})`,
            legend: 'received, {{family}} {{kind}}, {{instance}}',
          },
        ],
        width: 12,
        links: [p.toStatusPage()],
      }),
    )
    .withPanel(
      p.lines({
        title: 'Receive buffers of the peer monitor',
        description:
          'What the kernel granted each socket, and what was asked for: if it is less, raise net.core.rmem_max or give the agent CAP_NET_ADMIN.',
        unit: 'bytes',
        queries: [
          {
            expr: `min by (instance, family, kind) (${of('evenkeel_peers_socket_buffer_bytes')})`,
            legend: 'granted, {{family}} {{kind}}, {{instance}}',
          },
          {
            expr: `min by (instance, family, kind) (${of('evenkeel_peers_socket_buffer_asked_bytes')})`,
            legend: 'asked for, {{family}} {{kind}}, {{instance}}',
          },
        ],
        width: 12,
        links: [p.toStatusPage()],
      }),
    );
}
