//! The document in words, and as a configuration.

use std::fmt::{self, Write as _};

use evenkeel_core::text::harmless;

use super::document::{
    Discovery, FoundIn, InterfaceEntry, LinkStatus, ProbeEntry, SubnetEntry, TargetEntry,
};

/// What stands before a polling target, as wide as what stands before one that was left out.
const OFFERED: &str = "polling target";
const LEFT_OUT: &str = "left out      ";

impl Discovery {
    /// For a person at a terminal.
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a string can't fail.
        let _ = self.write_text(&mut out);
        out
    }

    /// A configuration that can be used as it is. What is not part of it is a comment.
    pub fn toml(&self) -> String {
        let mut out = String::new();
        // Writing to a string can't fail.
        let _ = self.write_toml(&mut out);
        out
    }

    fn write_text(&self, out: &mut String) -> fmt::Result {
        if self.subnets.is_empty() {
            return writeln!(out, "This host is on no subnet.");
        }
        for subnet in &self.subnets {
            subnet.write_text(out)?;
        }
        if self.probed {
            return writeln!(out, "Each was polled; those that did not answer are left out.");
        }
        writeln!(
            out,
            "No probe was done: --probe polls each, and leaves out those that don't answer."
        )
    }

    fn write_toml(&self, out: &mut String) -> fmt::Result {
        if self.probed {
            writeln!(
                out,
                "# The subnets of this host, and the gateways on them that answered, found by"
            )?;
            writeln!(out, "# `evenkeel discover --probe`.")?;
        } else {
            writeln!(
                out,
                "# The subnets of this host, and the gateways on them, found by `evenkeel discover`."
            )?;
            writeln!(
                out,
                "# No probe was done: with --probe, those that don't answer are left out."
            )?;
        }
        writeln!(out, "\n[subnets]")?;
        writeln!(out, "# What is named here is polled and no other gateway.")?;
        writeln!(out, "watch_gateways = false")?;
        self.subnets.iter().try_for_each(|subnet| subnet.write_toml(out))
    }
}

impl SubnetEntry {
    fn write_text(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "{}", self.subnet)?;
        for interface in &self.interfaces {
            writeln!(out, "  {interface}")?;
        }
        let targets = || self.polling_targets.iter().chain(&self.left_out);
        let width = targets().map(|target| target.polling_target.chars().count()).max();
        let width = width.unwrap_or_default();
        for (label, list) in [(OFFERED, &self.polling_targets), (LEFT_OUT, &self.left_out)] {
            for target in list {
                let name = harmless(&target.polling_target);
                writeln!(out, "  {label}  {name:<width$}  {}", target.in_words())?;
            }
        }
        if self.polling_targets.is_empty() {
            writeln!(out, "  no {OFFERED}: {}", self.advice())?;
        }
        writeln!(out)
    }

    fn write_toml(&self, out: &mut String) -> fmt::Result {
        let interfaces: Vec<String> = self.interfaces.iter().map(ToString::to_string).collect();
        writeln!(out, "\n# {}", interfaces.join("; "))?;
        for target in &self.left_out {
            let name = harmless(&target.polling_target);
            writeln!(out, "# left out: {name}  {}", target.in_words())?;
        }
        if self.polling_targets.is_empty() {
            writeln!(out, "# no {OFFERED}: {}", self.advice())?;
            writeln!(out, "# [[subnets.subnet]]\n# prefix = \"{}\"", self.subnet)?;
            let key = if self.is_one_address() { "polling_targets" } else { "peers" };
            return writeln!(out, "# {key} = [\"...\", \"...\"]");
        }
        writeln!(out, "[[subnets.subnet]]\nprefix = \"{}\"\npolling_targets = [", self.subnet)?;
        for target in &self.polling_targets {
            // An interface may be named by anything but a slash or a space.
            let name = toml::Value::from(target.polling_target.as_str());
            writeln!(out, "    {name},  # {}", target.in_words())?;
        }
        writeln!(out, "]")
    }

    /// What to do about a subnet on which there is no gateway to poll.
    fn advice(&self) -> &'static str {
        if self.is_one_address() {
            "no other node can be on it, so name one of another subnet (SUBN-13)"
        } else {
            "name other nodes that are on it as peers (peer polling)"
        }
    }
}

impl TargetEntry {
    /// Where it is known from, and what the probe said.
    fn in_words(&self) -> String {
        let found_in: Vec<String> = self.found_in.iter().map(FoundIn::to_string).collect();
        let mut words = found_in.join(", ");
        let answering = || self.probes.iter().filter(|probe| probe.answered > 0);
        let fastest = answering().filter_map(|probe| probe.round_trip_ms).reduce(f64::min);
        if let Some(fastest) = fastest {
            let polls: usize = answering().map(|probe| probe.polls).sum();
            let answered: usize = answering().map(|probe| probe.answered).sum();
            // Writing to a string can't fail.
            let _ = write!(words, "; {answered} of {polls} answered, {fastest:.2} ms");
        }
        for (reason, from) in self.silences() {
            let _ = write!(words, "; {reason}");
            // Where no address of ours has an answer, it needs no list of them.
            if fastest.is_some() {
                let _ = write!(words, " at {}", from.join(", "));
            }
        }
        harmless(&words).into_owned()
    }

    /// Why local addresses had no answer at all, each reason with those that had it.
    fn silences(&self) -> Vec<(&str, Vec<String>)> {
        let mut silences: Vec<(&str, Vec<String>)> = Vec::new();
        for probe in self.probes.iter().filter(|probe| probe.answered == 0) {
            let ProbeEntry { interface, local, reason, .. } = probe;
            let reason = reason.as_deref().unwrap_or("not polled");
            let from = format!("{local} ({interface})");
            match silences.iter_mut().find(|(known, _)| *known == reason) {
                Some((_, others)) => others.push(from),
                None => silences.push((reason, vec![from])),
            }
        }
        silences
    }
}

impl fmt::Display for InterfaceEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&harmless(&self.name))?;
        for (before, address) in
            std::iter::once("  ").chain(std::iter::repeat(", ")).zip(&self.addresses)
        {
            write!(f, "{before}{address}")?;
        }
        match self.status {
            LinkStatus::Up => Ok(()),
            LinkStatus::NoLink => f.write_str("  (no link)"),
            LinkStatus::Down => f.write_str("  (down)"),
        }
    }
}
