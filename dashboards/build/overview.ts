// What is wrong now, and what was wrong when.

import { RowBuilder } from '@grafana/grafana-foundation-sdk/dashboard';

import * as p from './parts';
import { COLOUR, increase, of, rate } from './parts';

export const OVERVIEW = 'evenkeel-overview';
export const INSTABILITY = 'evenkeel-instability';
export const REACHABILITY = 'evenkeel-reachability';
export const AGENT = 'evenkeel-agent';

const alarms = (severity: string) => `sum(${of('evenkeel_alarms_active', `severity=~"${severity}"`)})`;

export function overview() {
  return p
    .board(
      OVERVIEW,
      'Overview',
      'What is wrong now, and what was wrong when: start here.',
      ['target'],
    )
    .withRow(new RowBuilder('Now'))
    .withPanel(
      p.tile({
        title: 'Critical',
        description: 'Active alarms of severity critical: service is lost, or this agent itself does not do its work.',
        unit: 'short',
        queries: [{ expr: alarms('critical') }],
        width: 3,
        steps: p.fromOneOn(COLOUR.critical),
      }),
    )
    .withPanel(
      p.tile({
        title: 'Major',
        description: 'Active alarms of severity major: service is badly degraded.',
        unit: 'short',
        queries: [{ expr: alarms('major') }],
        width: 3,
        steps: p.fromOneOn(COLOUR.major),
      }),
    )
    .withPanel(
      p.tile({
        title: 'Minor and warning',
        description: 'Active alarms of severity minor or warning, such as a link that is down and does not flap.',
        unit: 'short',
        queries: [{ expr: alarms('minor|warning') }],
        width: 3,
        steps: p.fromOneOn(COLOUR.minor),
      }),
    )
    .withPanel(
      p.tile({
        title: 'Unstable',
        description: 'Systems and interfaces that go up and down too often. Who they are is on the board Instability.',
        unit: 'short',
        queries: [{ expr: `sum(${of('evenkeel_objects_unstable')})` }],
        width: 3,
        steps: p.fromOneOn(COLOUR.major),
        links: [p.toBoard('Who flaps', INSTABILITY)],
      }),
    )
    .withPanel(
      p.tile({
        title: 'Subnets down',
        description: 'Subnets that no interface of an agent\'s host carries at the IP level.',
        unit: 'short',
        queries: [{ expr: `count(${of('evenkeel_subnet_up')} == 0) or vector(0)` }],
        width: 3,
        steps: p.fromOneOn(COLOUR.critical),
        links: [p.toBoard('Subnets and peers', REACHABILITY)],
      }),
    )
    .withPanel(
      p.tile({
        title: 'Peers down',
        description: 'Remote peers that answered none of their heartbeats.',
        unit: 'short',
        queries: [{ expr: `sum(${of('evenkeel_peers', 'state="down"')}) or vector(0)` }],
        width: 3,
        steps: p.fromOneOn(COLOUR.major),
        links: [p.toBoard('Subnets and peers', REACHABILITY)],
      }),
    )
    .withPanel(
      p.tile({
        title: 'Targets unreachable',
        description: 'Notification targets that do not answer. What they are to be sent waits on the disk.',
        unit: 'short',
        queries: [
          {
            expr: `count(${of('evenkeel_notification_target_reachable', 'target=~"$target"')} == 0)
                   or vector(0)`,
          },
        ],
        width: 3,
        steps: p.fromOneOn(COLOUR.major),
      }),
    )
    .withPanel(
      p.tile({
        title: 'Agents gone',
        description: 'Agents that Prometheus cannot scrape. Nobody watches for them, unless a mate does.',
        unit: 'short',
        queries: [{ expr: `count(${of('up')} == 0) or vector(0)` }],
        width: 3,
        steps: p.fromOneOn(COLOUR.critical),
        links: [p.toBoard('Pair and agent', AGENT)],
      }),
    )
    .withPanel(
      p.table({
        title: 'What is wrong now',
        description:
          'Active alarms by agent and kind. A click leads to the status page of the agent, which says of each what it is about.',
        unit: 'short',
        queries: [{ expr: `sum by (instance, kind, severity) (${of('evenkeel_alarms_active')}) > 0` }],
        width: 12,
        height: 9,
        noValue: 'Nothing is wrong.',
        links: [p.toStatusPage('row')],
        columns: [
          { field: 'instance', heading: 'agent', width: 180 },
          { field: 'severity', heading: 'severity', width: 110 },
          { field: 'kind', heading: 'kind' },
          { field: 'Value', heading: 'alarms', width: 90 },
        ],
      }),
    )
    .withPanel(
      p.table({
        title: 'Alerts that fire',
        description:
          'By the rules that come with these boards. They also tell of what the agent cannot send as a notification.',
        unit: 'short',
        queries: [
          {
            expr: `sum by (instance, alertname, severity) (${of('ALERTS', 'alertstate="firing"')})`,
          },
        ],
        width: 12,
        height: 9,
        noValue: 'No alert fires.',
        links: [p.toStatusPage('row')],
        columns: [
          { field: 'instance', heading: 'agent', width: 180 },
          { field: 'severity', heading: 'severity', width: 110 },
          { field: 'alertname', heading: 'alert' },
          { field: 'Value', heading: 'alerts', width: 90 },
        ],
      }),
    )
    .withRow(new RowBuilder('When'))
    .withPanel(wrongWhen())
    .withPanel(
      p.bars({
        title: 'Raised',
        description: 'Alarms raised, by kind: many of one kind at one moment have one cause.',
        noValue: 'None.',
        unit: 'short',
        queries: [
          {
            expr: `sum by (kind) (${increase('evenkeel_alarms_raised_total')}) > 0`,
            legend: '{{kind}}',
          },
        ],
        width: 12,
      }),
    )
    .withPanel(
      p.bars({
        title: 'Cleared',
        description:
          'Alarms cleared, by reason. gave_way says that max_objects is too small: an object was forgotten before its alarm was over.',
        noValue: 'None.',
        unit: 'short',
        queries: [
          {
            expr: `sum by (reason) (${increase('evenkeel_alarms_cleared_total')}) > 0`,
            legend: '{{reason}}',
          },
        ],
        width: 12,
      }),
    )
    .withRow(new RowBuilder('Traps and notifications'))
    .withPanel(
      p.stack({
        title: 'Traps taken in',
        description:
          'By what became of them: counted towards an instability, a copy, a repeat of an inform, or of another kind.',
        unit: 'suffix:/s',
        queries: [
          {
            expr: `sum by (outcome) (${rate('evenkeel_traps_taken_total')}) > 0`,
            legend: '{{outcome}}',
          },
        ],
        width: 8,
      }),
    )
    .withPanel(
      p.bars({
        title: 'Not taken in',
        description:
          'Datagrams that were refused or lost, by reason; those of SNMPv3 by the step that they failed at. `evenkeel traps --rejected` shows the last ones.',
        noValue: 'Everything was taken in.',
        unit: 'short',
        queries: [
          {
            expr: `sum by (reason) (${increase('evenkeel_traps_discarded_total')}) > 0`,
            legend: '{{reason}}',
          },
          {
            expr: `sum by (step) (${increase('evenkeel_snmpv3_refused_total')}) > 0`,
            legend: 'v3 {{step}}',
          },
          {
            expr: `sum by (listen) (${increase('evenkeel_trap_socket_drops_total')}) > 0`,
            legend: 'dropped by the kernel at {{listen}}',
          },
        ],
        width: 8,
      }),
    )
    .withPanel(
      p.stack({
        title: 'Traps forwarded and held back',
        description:
          'Forwarded to each notification target; held back, as their object is unstable; and not sent on for another reason.',
        unit: 'suffix:/s',
        queries: [
          {
            expr: `sum by (target) (${rate('evenkeel_traps_forwarded_total', 'target=~"$target"')})`,
            legend: 'to {{target}}',
          },
          { expr: `sum(${rate('evenkeel_traps_suppressed_total')})`, legend: 'held back' },
          {
            expr: `sum by (target, reason) (${rate('evenkeel_traps_forwarding_failed_total', 'target=~"$target"')}) > 0`,
            legend: 'failed: {{target}}, {{reason}}',
          },
        ],
        width: 8,
      }),
    )
    .withPanel(
      p.states({
        title: 'Notification targets',
        description: 'Whether each can be reached. Of one that sends no acknowledgements only ICMP can tell.',
        unit: 'short',
        queries: [
          {
            expr: `min by (instance, target) (${of('evenkeel_notification_target_reachable', 'target=~"$target"')})`,
            legend: '{{target}} from {{instance}}',
          },
        ],
        width: 8,
        mappings: p.UP_OR_DOWN,
        links: [p.toStatusPage()],
      }),
    )
    .withPanel(
      p.lines({
        title: 'Waiting for notification targets',
        description:
          'Notifications and forwarded traps on the disk that a target has not got yet. They shrink to nothing when it is back.',
        unit: 'short',
        queries: [
          {
            expr: `sum by (instance, target) (${of('evenkeel_notifications_waiting', 'target=~"$target"')})`,
            legend: 'notifications for {{target}} at {{instance}}',
          },
          {
            expr: `sum by (instance, target) (${of('evenkeel_traps_forwarding_waiting', 'target=~"$target"')})`,
            legend: 'traps for {{target}} at {{instance}}',
          },
        ],
        width: 8,
        links: [p.toStatusPage()],
      }),
    )
    .withPanel(
      p.lines({
        title: 'Notifications',
        description:
          'Sent, acknowledged and sent again. What is lost was deleted before its target had it, as the journal or the spool was full.',
        unit: 'suffix:/s',
        queries: [
          {
            expr: `sum by (target) (${rate('evenkeel_notifications_sent_total', 'target=~"$target"')})`,
            legend: 'sent to {{target}}',
          },
          {
            expr: `sum by (target) (${rate('evenkeel_notifications_acknowledged_total', 'target=~"$target"')})`,
            legend: 'acknowledged by {{target}}',
          },
          {
            expr: `sum by (target) (${rate('evenkeel_notifications_retransmitted_total', 'target=~"$target"')})`,
            legend: 'sent again to {{target}}',
          },
          {
            expr: `sum by (target) (${rate('evenkeel_notifications_failed_total', 'target=~"$target"')}
                   + ${rate('evenkeel_notifications_refused_total', 'target=~"$target"')})`,
            legend: 'failed or refused: {{target}}',
          },
          {
            expr: `sum by (target) (${rate('evenkeel_notifications_lost_total', 'target=~"$target"')}) > 0`,
            legend: 'notifications lost: {{target}}',
          },
          {
            expr: `sum by (target) (${rate('evenkeel_spool_lost_total', 'target=~"$target"')}) > 0`,
            legend: 'traps lost: {{target}}',
          },
        ],
        width: 8,
      }),
    );
}

/** A row for each kind of which there was an alarm, the worst first, in the colour of its severity. */
function wrongWhen() {
  // What is of severity warning is an event, and never active.
  const severities = ['critical', 'major', 'minor'] as const;
  const panel = p.states({
    title: 'What was wrong when',
    description:
      'How many alarms of each kind were active: a row for each kind of which there was one, in the colour of its severity.',
    unit: 'short',
    queries: severities.map((severity) => {
      const active = of('evenkeel_alarms_active', `severity="${severity}"`);
      return {
        expr: `sum by (kind) (${active})
               and on (kind) sum by (kind) (max_over_time(${active}[$__range] @ end())) > 0`,
        legend: '{{kind}}',
      };
    }),
    width: 24,
    noValue: 'Nothing was wrong.',
    steps: [
      [null, COLOUR.none],
      [1, COLOUR.major],
    ],
  });
  severities.forEach((severity, place) => {
    const steps = [
      { value: null, color: COLOUR.none },
      { value: 1, color: COLOUR[severity] },
    ];
    const refId = String.fromCharCode('A'.charCodeAt(0) + place);
    panel.overrideByQuery(refId, [{ id: 'thresholds', value: { mode: 'absolute', steps } }]);
  });
  return panel;
}
