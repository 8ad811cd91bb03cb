//! Which settings hold for a system or an interface (INST-12).

use std::net::IpAddr;

use crate::{
    glob,
    settings::{Analysis, GroupSettings, Instability, Match},
    trap::Trap,
};

/// The place of a group in the configuration; one past the last stands for what no group matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupIndex(pub u16);

impl Instability {
    /// The settings at this place.
    pub fn group(&self, index: GroupIndex) -> &GroupSettings {
        self.groups.get(usize::from(index.0)).map_or(&self.otherwise, |group| &group.settings)
    }

    /// The name at this place; nothing for what no group matches.
    pub fn group_name(&self, index: GroupIndex) -> Option<&str> {
        self.groups.get(usize::from(index.0)).map(|group| group.name.as_str())
    }

    /// The first group that a system belongs to. One that asks for something of an interface
    /// holds no systems.
    pub fn group_of_system(&self, system: IpAddr) -> GroupIndex {
        self.first(|group| !group.matches.asks_of_interface() && group.matches.system(system))
            .unwrap_or(self.no_group())
    }

    /// The first group that an interface belongs to, by what this trap tells of it.
    pub fn group_of_interface(&self, system: IpAddr, if_index: u32, trap: &Trap<'_>) -> GroupIndex {
        self.first(|group| group.matches.interface(system, if_index, trap))
            .unwrap_or(self.no_group())
    }

    /// The group of an interface that is known from before, when it was in the group of this name.
    ///
    /// What its traps told is not kept: if the group asks for that, the interface stays in it until
    /// a trap tells anew, unless a group before it asks for nothing that a trap must tell.
    pub fn group_of_known_interface(
        &self,
        system: IpAddr,
        if_index: u32,
        name: Option<&str>,
    ) -> GroupIndex {
        self.first(|group| {
            if group.matches.asks_of_trap() && Some(group.name.as_str()) == name {
                group.matches.place(system, if_index)
            } else {
                group.matches.interface(system, if_index, &Trap::NOTHING)
            }
        })
        .unwrap_or(self.no_group())
    }

    /// How objects of a group are judged: interfaces or systems.
    pub fn analysis(&self, index: GroupIndex, interface: bool) -> Option<Analysis> {
        let group = self.group(index);
        if interface { group.interfaces } else { group.systems }
    }

    fn no_group(&self) -> GroupIndex {
        GroupIndex(u16::try_from(self.groups.len()).unwrap_or(u16::MAX))
    }

    fn first(&self, fits: impl Fn(&crate::settings::Group) -> bool) -> Option<GroupIndex> {
        let place = self.groups.iter().position(fits)?;
        u16::try_from(place).ok().map(GroupIndex)
    }
}

impl Match {
    fn asks_of_interface(&self) -> bool {
        !self.if_index.is_empty() || self.asks_of_trap()
    }

    /// Whether it asks for what only a trap can tell.
    fn asks_of_trap(&self) -> bool {
        !(self.if_type.is_empty()
            && self.if_descr.is_empty()
            && self.if_name.is_empty()
            && self.if_alias.is_empty())
    }

    fn system(&self, system: IpAddr) -> bool {
        self.systems.is_empty() || self.systems.iter().any(|prefix| prefix.contains(&system))
    }

    fn interface(&self, system: IpAddr, if_index: u32, trap: &Trap<'_>) -> bool {
        self.place(system, if_index) && (!self.asks_of_trap() || self.told_by(trap))
    }

    fn place(&self, system: IpAddr, if_index: u32) -> bool {
        self.system(system) && (self.if_index.is_empty() || self.if_index.contains(&if_index))
    }

    fn told_by(&self, trap: &Trap<'_>) -> bool {
        let fits = |patterns: &[String], text: Option<&[u8]>| {
            text.is_some_and(|text| patterns.iter().any(|pattern| glob::matches(pattern, text)))
        };
        trap.if_type.is_some_and(|if_type| self.if_type.contains(&if_type))
            || fits(&self.if_descr, trap.if_descr)
            || fits(&self.if_name, trap.if_name)
            || fits(&self.if_alias, trap.if_alias)
    }
}

impl Trap<'_> {
    /// Whether it tells anything that a group may ask for.
    pub fn describes_interface(&self) -> bool {
        self.if_type.is_some()
            || self.if_descr.is_some()
            || self.if_name.is_some()
            || self.if_alias.is_some()
    }
}
