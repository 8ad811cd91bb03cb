// Who flaps: the phases of each object over time, as in the manual's picture.

import { RowBuilder } from '@grafana/grafana-foundation-sdk/dashboard';

import { INSTABILITY } from './overview';
import * as p from './parts';
import { COLOUR, increase, of, rate } from './parts';

const PHASES = p.words([
  [1, 'counting', COLOUR.minor],
  [2, 'unstable', COLOUR.critical],
  [3, 'waiting for clear', COLOUR.major],
]);

/**
 * The phase of each object: 1 while it counts, 2 while it is unstable and its traps come, 3 while it has
 * been quiet and is waiting for its clear. Only the worst over the time that is shown: those that were
 * something else than stable for longest.
 */
function phases(what: 'interface' | 'system', labels: string): string {
  const unstable = of(`evenkeel_${what}_unstable`);
  const counting = of(`evenkeel_${what}_counting`);
  const quiet = of(`evenkeel_${what}_unstable_quiet_seconds`);
  return `
    max by (${labels}) (2 + (${quiet} > bool $quiet) or ${counting})
    and on (${labels}) topk($worst, sum by (${labels}) (
      count_over_time(${unstable}[$__range] @ end()) or count_over_time(${counting}[$__range] @ end())
    ))`;
}

/** One number of unstable interfaces and systems alike. */
const both = (number: string) => `
  max by (instance, system, if_index, if_name) (
    ${of(`evenkeel_interface_${number}`)} or ${of(`evenkeel_system_${number}`)}
  )`;

export function instability() {
  const description =
    'One row for each. Counting: traps within the trap window, but too few. Unstable: the threshold was reached, one notification was sent, and traps still come. Waiting for clear: no trap for longer than the chosen time; the next one starts the wait again.';
  return p
    .board(
      INSTABILITY,
      'Instability',
      'Who flaps: which systems and interfaces go up and down too often, and what became of their traps.',
      [],
    )
    .withVariable(p.number('worst', 'Show the worst', [10, 20, 50, 100], 20))
    .withVariable(p.number('quiet', 'Waiting after (s)', [5, 10, 30, 60, 300], 10))
    .withRow(new RowBuilder('Now'))
    .withPanel(
      p.tile({
        title: 'Unstable',
        description: 'Systems and interfaces that are unstable now.',
        unit: 'short',
        queries: [{ expr: `sum(${of('evenkeel_objects_unstable')})` }],
        width: 4,
        steps: p.fromOneOn(COLOUR.major),
      }),
    )
    .withPanel(
      p.tile({
        title: 'Counting',
        description:
          'Systems and interfaces with counted traps in their trap window, and too few of them: 100 of an agent at most.',
        unit: 'short',
        queries: [
          {
            expr: `count(${of('evenkeel_interface_counting')} or ${of('evenkeel_system_counting')})
                   or vector(0)`,
          },
        ],
        width: 4,
        steps: p.fromOneOn(COLOUR.minor),
      }),
    )
    .withPanel(
      p.tile({
        title: 'Episodes',
        description: 'Alarms of instability raised in the time that is shown: one for each episode.',
        unit: 'short',
        queries: [
          {
            expr: `sum(increase(${of('evenkeel_alarms_raised_total', 'kind=~".+_unstable"')}[$__range]))`,
          },
        ],
        width: 4,
        decimals: 0,
        steps: [[null, COLOUR.warning]],
      }),
    )
    .withPanel(
      p.tile({
        title: 'Traps held back',
        description:
          'Traps of unstable objects in the time that is shown that no notification target had to read.',
        unit: 'short',
        queries: [{ expr: `sum(increase(${of('evenkeel_traps_suppressed_total')}[$__range]))` }],
        width: 4,
        decimals: 0,
        steps: [[null, COLOUR.warning]],
      }),
    )
    .withPanel(
      p.tile({
        title: 'Not shown',
        description:
          'Unstable objects beyond the 1,000 of an agent that have series of their own. `evenkeel status` lists them all.',
        unit: 'short',
        queries: [{ expr: `sum(${of('evenkeel_unstable_series_omitted')})` }],
        width: 4,
        steps: p.fromOneOn(COLOUR.minor),
      }),
    )
    .withPanel(
      p.tile({
        title: 'Forgotten',
        description:
          'Objects that gave way in the time that is shown, as the table was full: raise max_objects. An unstable one never gives way.',
        unit: 'short',
        queries: [{ expr: `sum(increase(${of('evenkeel_objects_gave_way_total')}[$__range]))` }],
        width: 4,
        decimals: 0,
        steps: p.fromOneOn(COLOUR.major),
      }),
    )
    .withRow(new RowBuilder('Who flaps'))
    .withPanel(
      p.states({
        title: 'Interfaces',
        description,
        unit: 'short',
        queries: [
          {
            expr: phases('interface', 'instance, system, if_index, if_name'),
            legend: '{{system}} ifIndex {{if_index}} {{if_name}}',
          },
        ],
        width: 24,
        height: 10,
        noValue: 'No interface has flapped.',
        mappings: PHASES,
        links: [p.toStatusPage()],
      }),
    )
    .withPanel(
      p.states({
        title: 'Systems',
        description,
        unit: 'short',
        queries: [{ expr: phases('system', 'instance, system'), legend: '{{system}}' }],
        width: 24,
        height: 6,
        noValue: 'No system has restarted again and again.',
        mappings: PHASES,
        links: [p.toStatusPage()],
      }),
    )
    .withPanel(
      p.table({
        title: 'Unstable now',
        description:
          'Traps of the episode so far, how long it has been quiet, and how long until it is stable if nothing more comes. A click leads to the status page of the agent.',
        unit: 'short',
        queries: [
          { expr: both('unstable_traps') },
          { expr: both('unstable_quiet_seconds') },
          { expr: both('stable_in_seconds') },
        ],
        width: 14,
        noValue: 'Nothing is unstable.',
        links: [p.toStatusPage('row')],
        sort: 'traps',
        columns: [
          { field: 'instance', heading: 'agent' },
          { field: 'system', heading: 'system' },
          { field: 'if_index', heading: 'ifIndex', width: 80 },
          { field: 'if_name', heading: 'interface' },
          { field: 'Value #A', heading: 'traps', width: 90 },
          { field: 'Value #B', heading: 'quiet for', unit: 's', width: 90 },
          { field: 'Value #C', heading: 'stable in', unit: 's', width: 90 },
        ],
      }),
    )
    .withPanel(
      p.lines({
        title: 'Time until stable',
        description:
          'How long each unstable object still has to be quiet. It falls second by second, and every trap lifts it: the longer the trouble, the longer the quiet that is asked for, up to an hour.',
        unit: 's',
        queries: [
          {
            expr: `topk($worst, max by (instance, system, if_index) (
              ${of('evenkeel_interface_stable_in_seconds')} or ${of('evenkeel_system_stable_in_seconds')}
            ))`,
            legend: '{{system}} {{if_index}}',
          },
        ],
        width: 10,
        links: [p.toStatusPage()],
      }),
    )
    .withRow(new RowBuilder('In sum'))
    .withPanel(
      p.lines({
        title: 'Unstable objects',
        description: 'Systems and interfaces that are unstable, by agent. Many at once have one cause: look there first.',
        unit: 'short',
        queries: [{ expr: `sum by (instance) (${of('evenkeel_objects_unstable')})`, legend: '{{instance}}' }],
        width: 8,
        links: [p.toStatusPage()],
      }),
    )
    .withPanel(
      p.bars({
        title: 'Raised and cleared',
        description: 'Alarms of instability: raised above the line, cleared below it.',
        unit: 'short',
        queries: [
          {
            expr: `sum by (kind) (${increase('evenkeel_alarms_raised_total', 'kind=~".+_unstable"')}) > 0`,
            legend: '{{kind}} raised',
          },
          {
            expr: `-(sum by (kind) (${increase('evenkeel_alarms_cleared_total', 'kind=~".+_unstable"')}) > 0)`,
            legend: '{{kind}} cleared',
          },
        ],
        width: 8,
      }),
    )
    .withPanel(
      p.stack({
        title: 'Traps that count, and traps held back',
        description:
          'Traps that counted towards an instability, and those of objects that were unstable already, which were not forwarded.',
        unit: 'suffix:/s',
        queries: [
          { expr: `sum(${rate('evenkeel_traps_taken_total', 'outcome="counted"')})`, legend: 'counted' },
          { expr: `sum(${rate('evenkeel_traps_suppressed_total')})`, legend: 'held back' },
        ],
        width: 8,
      }),
    )
    .withPanel(
      p.lines({
        title: 'Objects in memory',
        description: 'Systems and interfaces that are remembered: keep this below max_objects.',
        unit: 'short',
        queries: [{ expr: `sum by (instance) (${of('evenkeel_objects')})`, legend: '{{instance}}' }],
        width: 12,
        links: [p.toStatusPage()],
      }),
    )
    .withPanel(
      p.lines({
        title: 'Links',
        description:
          'Links in force, from the configuration and topology files: both ends of one share an alarm. A drop says that a file was lost.',
        unit: 'short',
        queries: [{ expr: `sum by (instance) (${of('evenkeel_links')})`, legend: '{{instance}}' }],
        width: 12,
        links: [p.toStatusPage()],
      }),
    );
}
