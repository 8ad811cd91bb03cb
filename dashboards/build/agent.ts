// Two agents that guard each other, and each agent itself: does it keep up?

import { RowBuilder } from '@grafana/grafana-foundation-sdk/dashboard';

import { AGENT } from './overview';
import * as p from './parts';
import { COLOUR, increase, of, rate } from './parts';

const ALONE = 'No agent has a mate.';

export function agent() {
  return p
    .board(
      AGENT,
      'Pair and agent',
      'Who of a pair speaks, whether the other one could take over at once, and whether each agent keeps up.',
      ['target'],
    )
    .withRow(new RowBuilder('Pair'))
    .withPanel(
      p.states({
        title: 'Roles',
        description:
          'Who is primary: it polls and notifies. A pair has one primary; undecided is an agent that has just started and has not heard its mate.',
        unit: 'short',
        queries: [
          {
            expr: `max by (instance) (
                     1 * ${of('evenkeel_pair_role', 'role="undecided"')}
                     or 2 * (${of('evenkeel_pair_role', 'role="standby"')} == 1)
                     or 3 * (${of('evenkeel_pair_role', 'role="primary"')} == 1))`,
            legend: '{{instance}}',
          },
        ],
        width: 12,
        height: 6,
        mappings: p.words([
          [1, 'undecided', COLOUR.minor],
          [2, 'standby', COLOUR.warning],
          [3, 'primary', COLOUR.good],
        ]),
        links: [p.toStatusPage()],
        noValue: ALONE,
      }),
    )
    .withPanel(
      p.states({
        title: 'Paths to the mate',
        description:
          'Whether heartbeats come by each path, and whether the state channel is up. Without the channel a standby falls behind.',
        unit: 'short',
        queries: [
          {
            expr: `min by (instance, path) (${of('evenkeel_pair_path_up')})`,
            legend: '{{path}} at {{instance}}',
          },
          {
            expr: `min by (instance) (${of('evenkeel_pair_channel_up')})`,
            legend: 'state channel at {{instance}}',
          },
        ],
        width: 12,
        height: 6,
        mappings: p.UP_OR_DOWN,
        links: [p.toStatusPage()],
        noValue: ALONE,
      }),
    )
    .withPanel(
      p.states({
        title: 'Could the other one take over',
        description:
          'Whether both have all of the state, whether there is a standby at all, whether the limit lets it take over, and whether no operator holds the pair. Each of them should say yes.',
        unit: 'short',
        queries: [
          { expr: `min by (instance) (${of('evenkeel_pair_in_sync')})`, legend: 'in sync, {{instance}}' },
          {
            expr: `1 - max by (instance) (${of('evenkeel_pair_without_standby')})`,
            legend: 'has a standby, {{instance}}',
          },
          {
            expr: `1 - max by (instance) (${of('evenkeel_pair_takeovers_suppressed')})`,
            legend: 'may take over, {{instance}}',
          },
          { expr: `1 - max by (instance) (${of('evenkeel_pair_held')})`, legend: 'not held, {{instance}}' },
        ],
        width: 12,
        mappings: p.words([
          [1, 'yes', COLOUR.good],
          [0, 'no', COLOUR.critical],
        ]),
        links: [p.toStatusPage()],
        noValue: ALONE,
      }),
    )
    .withPanel(
      p.bars({
        title: 'Takeovers',
        description:
          'How often an agent became primary, by itself or by order. Too many in an hour are stopped by the limit, and then an operator must look.',
        unit: 'short',
        queries: [
          {
            expr: `sum by (instance, kind) (${increase('evenkeel_pair_takeovers_total')}) > 0`,
            legend: '{{instance}}, {{kind}}',
          },
        ],
        width: 12,
        links: [p.toStatusPage()],
        noValue: 'None.',
      }),
    )
    .withPanel(
      p.lines({
        title: 'How far the standby is behind',
        description:
          'Changes that the standby has not acknowledged: what a takeover at this moment would have to find out anew.',
        unit: 'short',
        queries: [
          {
            expr: `max by (instance) (${of('evenkeel_pair_standby_lag_events')})`,
            legend: '{{instance}}',
          },
        ],
        width: 8,
        links: [p.toStatusPage()],
        noValue: ALONE,
      }),
    )
    .withPanel(
      p.lines({
        title: 'Behind, silent, and the licence',
        description:
          'The age of the oldest change that the standby has not acknowledged; since when the mate was not heard; and for how long an agent may still speak without hearing anybody. A primary whose licence is at 0 is silent.',
        unit: 's',
        queries: [
          {
            expr: `max by (instance) (${of('evenkeel_pair_standby_lag_seconds')})`,
            legend: 'behind, {{instance}}',
          },
          {
            expr: `max by (instance) (${of('evenkeel_pair_mate_silent_seconds')})`,
            legend: 'mate silent, {{instance}}',
          },
          {
            expr: `min by (instance) (${of('evenkeel_pair_licence_seconds')})`,
            legend: 'licence, {{instance}}',
          },
        ],
        width: 8,
        links: [p.toStatusPage()],
        noValue: ALONE,
      }),
    )
    .withPanel(
      p.lines({
        title: 'Heartbeats of the pair',
        description:
          'Sent and received by each path: what one sends the other one should receive. Discarded ones were altered, replayed or of a stranger.',
        unit: 'suffix:/s',
        queries: [
          {
            expr: `sum by (instance, path) (${rate('evenkeel_pair_heartbeats_sent_total')})`,
            legend: 'sent by {{path}}, {{instance}}',
          },
          {
            expr: `sum by (instance, path) (${rate('evenkeel_pair_heartbeats_received_total')})`,
            legend: 'received by {{path}}, {{instance}}',
          },
          {
            expr: `sum by (instance, path) (${rate('evenkeel_pair_heartbeats_not_sent_total')}) > 0`,
            legend: 'not sent by {{path}}, {{instance}}',
          },
          {
            expr: `sum by (instance, reason) (${rate('evenkeel_pair_heartbeats_discarded_total')}) > 0`,
            legend: 'discarded: {{reason}}, {{instance}}',
          },
        ],
        width: 8,
        noValue: ALONE,
      }),
    )
    .withPanel(
      p.lines({
        title: 'State channel',
        description: 'Octets that each agent sends and receives: the changes of state, and full copies.',
        unit: 'Bps',
        queries: [
          {
            expr: `sum by (instance, direction) (${rate('evenkeel_pair_channel_bytes_total')})`,
            legend: '{{direction}}, {{instance}}',
          },
        ],
        width: 12,
        links: [p.toStatusPage()],
        noValue: ALONE,
      }),
    )
    .withPanel(
      p.bars({
        title: 'Trouble on the state channel',
        description:
          'Failed connections, connections and frames that were refused by reason, and full copies that were begun: each of these is a standby that had to begin anew.',
        unit: 'short',
        queries: [
          {
            expr: `sum by (instance, cause) (${increase('evenkeel_pair_channel_failures_total')}) > 0`,
            legend: '{{cause}} failed, {{instance}}',
          },
          {
            expr: `sum by (instance, reason) (${increase('evenkeel_pair_channel_refused_total')}) > 0`,
            legend: 'refused: {{reason}}, {{instance}}',
          },
          {
            expr: `sum by (instance) (${increase('evenkeel_pair_state_copies_total')}) > 0`,
            legend: 'full copies, {{instance}}',
          },
        ],
        width: 12,
        links: [p.toStatusPage()],
        noValue: 'None.',
      }),
    )
    .withPanel(
      p.lines({
        title: 'Traps that a standby keeps',
        description:
          'Trap datagrams that come to the standby too, by what becomes of them: confirmed by the primary, taken in at a takeover, too old (the primary does not hear that device), or dropped for lack of room; and traps that the mate had taken in while both were primary.',
        unit: 'short',
        queries: [
          {
            expr: `sum by (instance, outcome) (${increase('evenkeel_pair_shadow_traps_total')}) > 0`,
            legend: '{{outcome}}, {{instance}}',
          },
          {
            expr: `max by (instance) (${of('evenkeel_pair_shadow_traps')}) > 0`,
            legend: 'kept now, {{instance}}',
          },
          {
            expr: `sum by (instance) (${increase('evenkeel_spool_handed_over_total')}) > 0`,
            legend: 'handed over by the mate, {{instance}}',
          },
        ],
        width: 12,
        links: [p.toStatusPage()],
        noValue: 'None.',
      }),
    )
    .withRow(new RowBuilder('Agent'))
    .withPanel(
      p.table({
        title: 'Agents',
        description:
          'Version, time since the start, time since the configuration in force was loaded, whether the last reload was taken, traps that were on the disk and were judged again at this start, and the term of the pair.',
        unit: 'short',
        queries: [
          { expr: `max by (instance, version) (${of('evenkeel_build_info')})` },
          { expr: `time() - max by (instance) (${of('process_start_time_seconds')})` },
          {
            expr: `time() - max by (instance) (${of('evenkeel_config_last_reload_success_timestamp_seconds')})`,
          },
          { expr: `max by (instance) (${of('evenkeel_config_last_reload_successful')})` },
          { expr: `max by (instance) (${of('evenkeel_spool_replayed_total')})` },
          { expr: `max by (instance) (${of('evenkeel_pair_term')})` },
        ],
        width: 14,
        links: [p.toStatusPage('row')],
        columns: [
          { field: 'instance', heading: 'agent' },
          { field: 'version', heading: 'version' },
          { field: 'Value #B', heading: 'up for', unit: 's' },
          { field: 'Value #C', heading: 'configured for', unit: 's' },
          { field: 'Value #D', heading: 'reload taken', unit: 'bool_yes_no' },
          { field: 'Value #E', heading: 'traps judged again' },
          { field: 'Value #F', heading: 'term' },
        ],
      }),
    )
    .withPanel(
      p.states({
        title: 'Parts',
        description:
          'Whether each part of the agent shows signs of life. One that does not is component_stalled, and the agent gives up its role.',
        unit: 'short',
        queries: [
          {
            expr: `min by (instance, part) (${of('evenkeel_part_up')})`,
            legend: '{{part}} at {{instance}}',
          },
        ],
        width: 10,
        mappings: p.UP_OR_DOWN,
        links: [p.toStatusPage()],
      }),
    )
    .withPanel(
      p.lines({
        title: 'Signs of life',
        description: 'How long ago each part gave its last: half a second is well, and from 3 s on it has stalled.',
        unit: 's',
        queries: [
          {
            expr: `max by (instance, part) (${of('evenkeel_part_last_sign_seconds')})`,
            legend: '{{part}}, {{instance}}',
          },
        ],
        width: 12,
        steps: [
          [null, COLOUR.good],
          [3, COLOUR.critical],
        ],
        links: [p.toStatusPage()],
      }),
    )
    .withPanel(
      p.bars({
        title: 'Stalls',
        description:
          'How often an agent stood still for so long that polls or heartbeats said nothing. Again and again: give it CPU.',
        unit: 'short',
        queries: [
          {
            expr: `sum by (instance) (${increase('evenkeel_stalls_total')}) > 0`,
            legend: '{{instance}}',
          },
          {
            expr: `sum by (instance) (${increase('evenkeel_peers_stalls_total')}) > 0`,
            legend: '{{instance}}, peer monitor',
          },
          {
            expr: `sum by (instance) (${increase('evenkeel_pair_stalls_total')}) > 0`,
            legend: '{{instance}}, pair',
          },
          {
            expr: `sum by (instance, part) (${increase('evenkeel_part_stalls_total')}) > 0`,
            legend: '{{instance}}, {{part}}',
          },
        ],
        width: 12,
        links: [p.toStatusPage()],
        noValue: 'None.',
      }),
    )
    .withPanel(
      p.lines({
        title: 'CPU',
        description: 'Of one processor: above 1 it uses several threads.',
        unit: 'percentunit',
        queries: [
          { expr: `sum by (instance) (${rate('process_cpu_seconds_total')})`, legend: '{{instance}}' },
        ],
        width: 8,
        links: [p.toStatusPage()],
      }),
    )
    .withPanel(
      p.lines({
        title: 'Memory',
        description: 'Resident memory. It is bounded by max_objects, max_waiting and the peers that are monitored.',
        unit: 'bytes',
        queries: [
          { expr: `sum by (instance) (${of('process_resident_memory_bytes')})`, legend: '{{instance}}' },
        ],
        width: 8,
        links: [p.toStatusPage()],
      }),
    )
    .withPanel(
      p.lines({
        title: 'Scrapes',
        description:
          'How long Prometheus waits for the page, and how many series are on it: it pays for these.',
        unit: 'short',
        queries: [
          { expr: `max by (instance) (${of('scrape_samples_scraped')})`, legend: 'series, {{instance}}' },
          { expr: `max by (instance) (${of('scrape_duration_seconds')})`, legend: 'seconds, {{instance}}' },
        ],
        width: 8,
        links: [p.toStatusPage()],
      }).overrideByRegexp('seconds, .*', [
        { id: 'unit', value: 's' },
        { id: 'custom.axisPlacement', value: 'right' },
      ]),
    )
    .withRow(new RowBuilder('Input'))
    .withPanel(
      p.lines({
        title: 'Received',
        description: 'Datagrams that reached the core through the trap sockets, and their octets.',
        unit: 'suffix:/s',
        queries: [
          {
            expr: `sum by (instance) (${rate('evenkeel_traps_received_total')})`,
            legend: 'datagrams, {{instance}}',
          },
          {
            expr: `sum by (instance) (${rate('evenkeel_traps_received_bytes_total')})`,
            legend: 'octets, {{instance}}',
          },
        ],
        width: 8,
        links: [p.toStatusPage()],
      }).overrideByRegexp('octets, .*', [
        { id: 'unit', value: 'Bps' },
        { id: 'custom.axisPlacement', value: 'right' },
      ]),
    )
    .withPanel(
      p.stack({
        title: 'Traps by form',
        description: 'Traps and informs taken in, by version of SNMP.',
        unit: 'suffix:/s',
        queries: [
          { expr: `sum by (form) (${rate('evenkeel_traps_by_form_total')}) > 0`, legend: '{{form}}' },
        ],
        width: 8,
      }),
    )
    .withPanel(
      p.lines({
        title: 'Waiting for the core',
        description:
          'Octets that were read and wait for the core, beside the receive buffers that the kernel granted. What does not fit is dropped and raises overload.',
        unit: 'bytes',
        queries: [
          { expr: `sum by (instance) (${of('evenkeel_trap_queue_bytes')})`, legend: 'waiting, {{instance}}' },
          {
            expr: `sum by (instance, listen) (${of('evenkeel_trap_socket_buffer_bytes')})`,
            legend: 'buffer of {{listen}}, {{instance}}',
          },
        ],
        width: 8,
        links: [p.toStatusPage()],
      }),
    )
    .withPanel(
      p.bars({
        title: 'Dropped',
        description:
          'What was lost in the kernel or for want of room. Raise receive_buffer, max_waiting or source_rate, or give the agent CPU.',
        unit: 'short',
        queries: [
          {
            expr: `sum by (instance, listen) (${increase('evenkeel_trap_socket_drops_total')}) > 0`,
            legend: 'kernel, {{listen}} at {{instance}}',
          },
          {
            expr: `sum by (instance, reason) (${increase('evenkeel_traps_discarded_total', 'reason=~"queue_full|source_limit"')}) > 0`,
            legend: '{{reason}} at {{instance}}',
          },
        ],
        width: 6,
        links: [p.toStatusPage()],
        noValue: 'Nothing.',
      }),
    )
    .withPanel(
      p.lines({
        title: 'SNMPv3',
        description:
          'Messages that were authentic and readable by level, those that were not, by the step that they failed at and by the counters of SNMP-USER-BASED-SM-MIB, and Reports made. agent/snmpv3.md says what each means.',
        unit: 'suffix:/s',
        queries: [
          { expr: `sum by (level) (${rate('evenkeel_snmpv3_messages_total')})`, legend: '{{level}}' },
          {
            expr: `sum by (step) (${rate('evenkeel_snmpv3_refused_total')}) > 0`,
            legend: 'refused: {{step}}',
          },
          { expr: `sum(${rate('evenkeel_snmpv3_reports_total')})`, legend: 'Reports' },
          { expr: `sum by (counter) (${rate('evenkeel_usm_stats_total')}) > 0`, legend: '{{counter}}' },
        ],
        width: 6,
      }),
    )
    .withPanel(
      p.lines({
        title: 'SNMP engines',
        description: 'In memory, and of these learned at first sight: keep them below max_engines.',
        unit: 'short',
        queries: [
          { expr: `sum by (instance) (${of('evenkeel_snmp_engines')})`, legend: 'in memory, {{instance}}' },
          {
            expr: `sum by (instance) (${of('evenkeel_snmp_engines_learned_total')})`,
            legend: 'learned, {{instance}}',
          },
          {
            expr: `sum by (instance) (${of('evenkeel_snmp_engines_gave_way_total')})`,
            legend: 'forgotten, {{instance}}',
          },
        ],
        width: 6,
        links: [p.toStatusPage()],
      }),
    )
    .withPanel(
      p.lines({
        title: 'Informs',
        description:
          'Informs taken in, and answered. Answers that wait are held until what was said is safe on the disk.',
        unit: 'short',
        queries: [
          { expr: `sum by (instance) (${rate('evenkeel_informs_taken_total')})`, legend: 'a second, {{instance}}' },
          {
            expr: `sum by (instance) (${rate('evenkeel_answers_sent_total')})`,
            legend: 'answers a second, {{instance}}',
          },
          {
            expr: `sum by (instance) (${rate('evenkeel_answers_failed_total')}) > 0`,
            legend: 'answers failed a second, {{instance}}',
          },
          {
            expr: `sum by (instance) (${of('evenkeel_answers_waiting')})`,
            legend: 'answers waiting, {{instance}}',
          },
        ],
        width: 6,
        links: [p.toStatusPage()],
      }),
    )
    .withRow(new RowBuilder('Disk and output'))
    .withPanel(
      p.lines({
        title: 'Waiting for the disk',
        description:
          'Alarms and changed records. No notification leaves before its alarm is on the disk: this must come back to 0.',
        unit: 'short',
        queries: [
          {
            expr: `sum by (instance) (${of('evenkeel_journal_waiting_events')})`,
            legend: 'alarm events, {{instance}}',
          },
          {
            expr: `sum by (instance) (${of('evenkeel_records_waiting')})`,
            legend: 'records, {{instance}}',
          },
        ],
        width: 8,
        links: [p.toStatusPage()],
      }),
    )
    .withPanel(
      p.lines({
        title: 'Time to force the spool to the disk',
        description:
          'The mean of one time. Informs wait for it before they are answered, many for one.',
        unit: 's',
        queries: [
          {
            expr: `sum by (instance) (${rate('evenkeel_spool_sync_seconds_total')})
                   / sum by (instance) (${rate('evenkeel_spool_syncs_total')} > 0)`,
            legend: '{{instance}}',
          },
        ],
        width: 8,
        links: [p.toStatusPage()],
      }),
    )
    .withPanel(
      p.lines({
        title: 'Spool and queues',
        description:
          'The spool on the disk, what waits to be written to it, and what waits to be forwarded. At spool.max_size the oldest entries are deleted.',
        unit: 'bytes',
        queries: [
          { expr: `sum by (instance) (${of('evenkeel_spool_size_bytes')})`, legend: 'spool, {{instance}}' },
          {
            expr: `sum by (instance) (${of('evenkeel_spool_waiting_bytes')})`,
            legend: 'waiting for the disk, {{instance}}',
          },
          {
            expr: `sum by (instance) (${of('evenkeel_forwarder_queue_bytes')})`,
            legend: 'waiting for the forwarder, {{instance}}',
          },
        ],
        width: 8,
        links: [p.toStatusPage()],
      }),
    )
    .withPanel(
      p.lines({
        title: 'Written',
        description: 'Raises and clears in the journal, and entries of the spool.',
        unit: 'suffix:/s',
        queries: [
          {
            expr: `sum by (instance) (${rate('evenkeel_journal_events_total')})`,
            legend: 'journal, {{instance}}',
          },
          {
            expr: `sum by (instance) (${rate('evenkeel_spool_entries_total')})`,
            legend: 'spool, {{instance}}',
          },
        ],
        width: 8,
      }),
    )
    .withPanel(
      p.bars({
        title: 'Failed and lost',
        description:
          'Failed attempts to write, and what was deleted before a notification target had it. Each of these wants somebody.',
        unit: 'short',
        queries: [
          {
            expr: `sum by (instance) (${increase('evenkeel_journal_failures_total')}) > 0`,
            legend: 'journal, {{instance}}',
          },
          {
            expr: `sum by (instance) (${increase('evenkeel_spool_failures_total')}) > 0`,
            legend: 'spool, {{instance}}',
          },
          {
            expr: `sum by (target) (${increase('evenkeel_spool_lost_total', 'target=~"$target"')}) > 0`,
            legend: 'traps lost, {{target}}',
          },
          {
            expr: `sum by (target) (${increase('evenkeel_notifications_lost_total', 'target=~"$target"')}) > 0`,
            legend: 'notifications lost, {{target}}',
          },
        ],
        width: 8,
        noValue: 'Nothing.',
      }),
    )
    .withPanel(
      p.bars({
        title: 'Forwarded otherwise than asked for',
        description:
          'Traps that went with snmpTrapAddress.0 as their source address could not be kept, and that were not sent on as they had just been.',
        unit: 'short',
        queries: [
          {
            expr: `sum by (target, reason) (${increase('evenkeel_traps_forwarded_without_source_total', 'target=~"$target"')}) > 0`,
            legend: '{{target}}, {{reason}}',
          },
          {
            expr: `sum by (instance) (${increase('evenkeel_traps_forwarding_doubled_total')}) > 0`,
            legend: 'doubled at {{instance}}',
          },
        ],
        width: 8,
        noValue: 'None.',
      }),
    );
}
