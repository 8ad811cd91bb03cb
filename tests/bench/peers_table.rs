//! The table of `peers.rs`: rows of figures, each as often as it was measured.

use super::{
    askers::{Sample, each_peer},
    bare_peers::Outcome,
    usage::{self, Cpu},
    wire::{Pacing, quantile},
};

/// A row of the table: every figure as often as it was measured.
#[derive(Default)]
pub struct Row {
    each: Vec<f64>,
    user: Vec<f64>,
    rate: Vec<f64>,
    lost: Vec<f64>,
    memory: Vec<f64>,
    peer: Vec<f64>,
    /// What the cable showed.
    pub pacing: Vec<Pacing>,
    /// What is told below it.
    pub note: String,
}

impl Row {
    /// What was used and done in a while.
    pub fn sample(&mut self, sample: &Sample) {
        self.each.push(sample.each());
        self.user.push(sample.cpu.user.as_secs_f64() / sample.requests as f64);
        self.rate.push(sample.rate());
    }

    /// What so many requests took, where the rate was not looked at.
    pub fn cpu(&mut self, cpu: Cpu, requests: u32) {
        self.each.push(cpu.total().as_secs_f64() / f64::from(requests));
        self.user.push(cpu.user.as_secs_f64() / f64::from(requests));
    }

    /// What became of it.
    pub fn outcome(&mut self, outcome: Outcome) {
        self.lost.push(1.0 - outcome.answered as f64 / outcome.sent as f64);
    }

    /// What a process has in use, and how much of it is for its peers.
    pub fn memory(&mut self, pid: u32, without: u64, peers: u32) {
        self.memory.push(usage::resident(pid).0 as f64);
        self.peer.push(each_peer(pid, without, peers));
    }
}

/// The row of this name.
pub fn row<'a>(rows: &'a mut Vec<(String, Row)>, name: &str) -> &'a mut Row {
    let at = rows.iter().position(|(its, _)| its == name).unwrap_or_else(|| {
        rows.push((name.to_owned(), Row::default()));
        rows.len() - 1
    });
    &mut rows[at].1
}

/// The table of some rows; the bare loop is the limit.
pub fn print(rows: &[(String, Row)]) {
    if rows.is_empty() {
        return;
    }
    let line = |name: &str, columns: [String; 11]| {
        let [asked, each, user, bare, core, lost, memory, peer, half, most, trip] = columns;
        println!(
            "{name:44}{asked:>9}{each:>9}{user:>7}{bare:>8}{core:>9}{lost:>8}{memory:>8}{peer:>8}\
             {half:>9}{most:>9}{trip:>11}"
        );
    };
    let heads = [
        ["asked", "CPU each", "user", "x bare", "peers", "lost", "memory", "a peer", "off by", ""],
        ["a second", "µs", "µs", "", "a core", "%", "MB", "octets", "p50 ms", "p99 ms"],
    ];
    for (head, last) in heads.into_iter().zip(["round trip", "p50 µs"]) {
        let mut columns = [const { String::new() }; 11];
        head.into_iter().chain([last]).enumerate().for_each(|(at, it)| columns[at] = it.to_owned());
        line("", columns);
    }
    let bare = rows.iter().find(|(name, _)| name.starts_with("bare"));
    let limit = bare.map_or(f64::NAN, |(_, row)| median(&row.each));
    for (name, row) in rows {
        let each = median(&row.each);
        let pacing =
            |of: &dyn Fn(&Pacing) -> f64| median(&row.pacing.iter().map(of).collect::<Vec<_>>());
        let columns = [
            number(median(&row.rate), 0),
            number(each * 1e6, 2),
            number(median(&row.user) * 1e6, 2),
            number(each / limit, 2),
            number(1.0 / each, 0),
            number(median(&row.lost) * 100.0, 3),
            number(median(&row.memory) / 1e6, 1),
            number(median(&row.peer), 0),
            number(pacing(&|it| 1000.0 * quantile(&it.off_by, 0.5)), 2),
            number(pacing(&|it| 1000.0 * quantile(&it.off_by, 0.99)), 2),
            number(pacing(&|it| 1e6 * quantile(&it.round_trips, 0.5)), 1),
        ];
        line(name, columns);
        if !row.note.is_empty() {
            println!("{:44}{}", "", row.note.trim_end_matches("; "));
        }
    }
    println!();
}

/// A number with so many decimals; nothing for none.
fn number(value: f64, decimals: usize) -> String {
    if value.is_finite() { format!("{value:.decimals$}") } else { "-".to_owned() }
}

/// The middle one; nothing that is a number of none.
fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
