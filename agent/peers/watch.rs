//! Follows the files that name peers (PEER-13), and says who is wanted.
//!
//! A change is noticed by inotify(7), on the directories of the files, so that it makes no difference
//! whether a file is written in place, replaced by a rename, deleted and made anew, or a symbolic link
//! on the way to it is swapped; and as some file systems report nothing, all files are looked at every
//! 30 s besides. What changes together is taken in together: looking waits until nothing has happened
//! for 200 ms.
//!
//! The last good content of a file stays in force for as long as the file is there: when it turns bad
//! or can't be read any more, that is told, and its peers stay. The peers of a file that is gone are
//! gone with it, as Prometheus has it.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    future,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use evenkeel_core::peers::roster::Wanted;
use futures_util::StreamExt;
use inotify::{EventStream, Inotify, WatchDescriptor, WatchMask, Watches};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use super::file_sd::{self, Entry, Version};
use crate::{config::Peers, files::FilePattern};

/// When files are looked at.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// How long nothing must have happened to take a change in: a file is written in pieces, and a
    /// tool that writes several takes a moment.
    quiet: Duration,
    /// After how long it is taken in even so: directories may be busy for other reasons.
    longest: Duration,
    /// How often all files are looked at without any sign of a change.
    poll: Duration,
}

const PACE: Pace = Pace {
    quiet: Duration::from_millis(200),
    longest: Duration::from_secs(2),
    poll: Duration::from_secs(30),
};

/// How often a look is repeated as it found more directories to watch. A directory or link that
/// changes faster than that will be seen by its next event.
const MOST_LOOKS: usize = 4;

/// What the followed files say.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The content that is in force, by file.
    contents: BTreeMap<PathBuf, Arc<[Entry]>>,
    /// What is wrong with a file, by file; its last good content, if it has any, is in force.
    bad: BTreeMap<PathBuf, String>,
    /// What else is wrong, a sentence each.
    pub problems: Vec<String>,
    /// Every file that is there has content that is in force. While that is not so, it is not known
    /// who else is wanted, and alarms of an earlier run should wait
    /// ([`Roster::update_in_part`](evenkeel_core::peers::roster::Roster::update_in_part)).
    pub complete: bool,
    /// How often a file was read with success since the start.
    pub readings: u64,
    /// How often one could not be read, or had bad content.
    pub failures: u64,
}

impl Sources {
    /// Whom the files of a pattern name, in the order of the files' names.
    pub fn of<'s>(&'s self, pattern: &'s FilePattern) -> impl Iterator<Item = &'s Entry> {
        let from = pattern.directory();
        let files = self.contents.range(from.to_owned()..);
        // Names in one directory stand together, with those of its subdirectories between.
        let files = files.take_while(move |(path, _)| path.starts_with(from));
        files.filter(|(path, _)| pattern.matches(path)).flat_map(|(_, entries)| entries.iter())
    }

    /// The files of a pattern: how many peers each names, and what is wrong with it.
    pub fn files_of<'s>(
        &'s self,
        pattern: &'s FilePattern,
    ) -> impl Iterator<Item = (&'s Path, usize, Option<&'s str>)> {
        let paths: BTreeSet<&PathBuf> = self.contents.keys().chain(self.bad.keys()).collect();
        paths.into_iter().filter(|path| pattern.matches(path)).map(|path| {
            let entries = self.contents.get(path).map_or(0, |entries| entries.len());
            (path.as_path(), entries, self.bad.get(path).map(String::as_str))
        })
    }

    /// Everything that is wrong, a sentence each.
    pub fn all_problems(&self) -> impl Iterator<Item = &String> {
        self.problems.iter().chain(self.bad.values())
    }
}

/// Who is wanted: of each group those that the configuration lists, then those of its files, in order.
/// Some may be named more than once (PEER-7).
pub fn wanted(peers: &Peers, sources: &Sources) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    for (group, source) in (0..).zip(&peers.sources) {
        let disabled: HashSet<IpAddr> = source.disabled.iter().copied().collect();
        let one = |address, labels| {
            let enabled = source.enabled && !disabled.contains(&address);
            Wanted { address, group, enabled, labels }
        };
        wanted.extend(source.peers.iter().map(|peer| one(*peer, Arc::clone(&source.labels))));
        let entries = source.files.iter().flat_map(|pattern| sources.of(pattern));
        wanted.extend(entries.map(|entry| one(entry.address, Arc::clone(&entry.labels))));
    }
    wanted
}

/// Every pattern of a configuration.
pub fn patterns(peers: &Peers) -> BTreeSet<FilePattern> {
    peers.sources.iter().flat_map(|source| source.files.iter().cloned()).collect()
}

/// One file, as it was at the last look.
#[derive(Debug)]
struct Seen {
    /// The version that was read; nothing if it could not be.
    version: Option<Version>,
    /// Its last good content.
    content: Option<Arc<[Entry]>>,
    problem: Option<String>,
}

/// The files of some patterns, with the last good content of each.
#[derive(Debug, Default)]
pub struct Files {
    patterns: BTreeSet<FilePattern>,
    seen: BTreeMap<PathBuf, Seen>,
    /// Directories that can't be read, and files that are not there.
    problems: Vec<String>,
    complete: bool,
    readings: u64,
    failures: u64,
}

impl Files {
    /// The files of these patterns, none of which has been looked at.
    pub fn new(patterns: BTreeSet<FilePattern>) -> Files {
        Files { patterns, ..Files::default() }
    }

    /// Reads whatever has changed since the last look, and waits for the disk. Says whether anything
    /// is different now.
    pub fn look(&mut self) -> bool {
        let before = (self.problems.clone(), self.complete);
        let mut changed = false;
        let (mut present, mut unreadable) = (BTreeSet::new(), Vec::new());
        let patterns = self.patterns.clone();
        self.problems.clear();
        for pattern in &patterns {
            match pattern.files() {
                Ok(files) => {
                    if files.is_empty() && pattern.one_file().is_some() {
                        self.problems.push(format!("{pattern}: there is no such file"));
                    }
                    present.extend(files);
                }
                Err(error) => {
                    self.problems.push(format!("{pattern}: can't look for it: {error}"));
                    unreadable.push(pattern);
                }
            }
        }
        self.seen.retain(|path, _| {
            let stays = present.contains(path) || unreadable.iter().any(|one| one.matches(path));
            changed |= !stays;
            stays
        });
        for path in present {
            changed |= self.look_at(path);
        }
        self.complete =
            unreadable.is_empty() && self.seen.values().all(|seen| seen.content.is_some());
        changed || before != (self.problems.clone(), self.complete)
    }

    fn look_at(&mut self, path: PathBuf) -> bool {
        let version = std::fs::metadata(&path).ok().map(|metadata| Version::of(&metadata));
        let before = self.seen.get(&path);
        if before.is_some_and(|seen| seen.version.is_some() && seen.version == version) {
            return false;
        }
        match file_sd::read(&path) {
            Ok((entries, version)) => {
                self.readings += 1;
                let seen =
                    Seen { version: Some(version), content: Some(entries.into()), problem: None };
                self.seen.insert(path, seen);
                true
            }
            Err(bad) => {
                self.failures += 1;
                let content = before.and_then(|seen| seen.content.clone());
                let kept = match &content {
                    Some(entries) => format!("its former {} peers stay", entries.len()),
                    None => "none of its peers are monitored".to_owned(),
                };
                let problem = Some(format!("{bad} ({kept})"));
                let changed = before.is_none_or(|seen| seen.problem != problem);
                // One that can't be read is tried again at each look.
                let version = version.filter(|_| !bad.unread);
                self.seen.insert(path, Seen { version, content, problem });
                changed
            }
        }
    }

    /// What they say.
    pub fn sources(&self) -> Sources {
        let content = |(path, seen): (&PathBuf, &Seen)| Some((path.clone(), seen.content.clone()?));
        let bad = |(path, seen): (&PathBuf, &Seen)| Some((path.clone(), seen.problem.clone()?));
        Sources {
            contents: self.seen.iter().filter_map(content).collect(),
            bad: self.seen.iter().filter_map(bad).collect(),
            problems: self.problems.clone(),
            complete: self.complete,
            readings: self.readings,
            failures: self.failures,
        }
    }

    /// The directories in which something happens when one of the files changes.
    fn directories(&self) -> BTreeSet<PathBuf> {
        let mut directories = BTreeSet::new();
        for pattern in &self.patterns {
            // One that is not there yet will come to be in the nearest one that is.
            let there = pattern.directory().ancestors().find(|directory| directory.is_dir());
            let Some(there) = there else { continue };
            // A directory, or a link to one, may be swapped as a whole.
            directories.extend(there.parent().map(Path::to_owned));
            directories.insert(there.to_owned());
        }
        // A symbolic link may point at a file elsewhere, which is written there.
        let real = self.seen.keys().filter_map(|path| path.canonicalize().ok());
        directories.extend(real.filter_map(|path| path.parent().map(Path::to_owned)));
        directories
    }
}

/// Follows files for as long as it lives.
#[derive(Debug)]
pub struct Watch {
    follow: mpsc::Sender<Follow>,
    task: JoinHandle<()>,
}

/// Other patterns from now on, and who waits for what their files say.
type Follow = (BTreeSet<FilePattern>, oneshot::Sender<Arc<Sources>>);

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watch {
    /// Follows these patterns from now on, and gives what their files say. Files that were followed
    /// before keep their last good content.
    pub async fn follow(&self, patterns: BTreeSet<FilePattern>) -> Arc<Sources> {
        let (answer, answered) = oneshot::channel();
        // The task ends with this or with the runtime, and then nobody waits any more.
        if self.follow.send((patterns, answer)).await.is_err() {
            return future::pending().await;
        }
        match answered.await {
            Ok(sources) => sources,
            Err(_) => future::pending().await,
        }
    }
}

/// Reads the files of these patterns, and then follows them. What the receiver holds at first is what
/// they say now; it is told when anything has changed.
pub async fn start(patterns: BTreeSet<FilePattern>) -> (Watch, watch::Receiver<Arc<Sources>>) {
    start_at(patterns, PACE, Inotify::init().map_err(|error| error.to_string())).await
}

async fn start_at(
    patterns: BTreeSet<FilePattern>,
    pace: Pace,
    inotify: Result<Inotify, String>,
) -> (Watch, watch::Receiver<Arc<Sources>>) {
    let stream = inotify.and_then(|inotify| {
        inotify.into_event_stream([0; 4096]).map_err(|error| error.to_string())
    });
    let (events, watches, blind) = match stream {
        Ok(stream) => {
            let watches = stream.watches();
            (Some(stream), Some(watches), None)
        }
        Err(error) => (None, None, Some(error)),
    };
    let looker = Looker { files: Files::new(patterns), watches, watched: HashSet::new(), blind };
    let (sender, receiver) = watch::channel(Arc::new(Sources::default()));
    let (follow, follows) = mpsc::channel(1);
    let mut follower = Follower { looker: Some(looker), events, pace, sender };
    follower.look(|_| ()).await;
    let task = tokio::spawn(follower.run(follows));
    (Watch { follow, task }, receiver)
}

/// The task: waits for a sign of change, and looks.
struct Follower {
    /// Away while it looks.
    looker: Option<Looker>,
    events: Option<EventStream<[u8; 4096]>>,
    pace: Pace,
    sender: watch::Sender<Arc<Sources>>,
}

impl Follower {
    async fn run(mut self, mut follows: mpsc::Receiver<Follow>) {
        loop {
            tokio::select! {
                follow = follows.recv() => {
                    let Some((patterns, answer)) = follow else { return };
                    self.look(|files| files.patterns = patterns).await;
                    // Whoever asked may have gone.
                    let _ = answer.send(Arc::clone(&self.sender.borrow()));
                }
                () = next_event(&mut self.events) => {
                    self.gather().await;
                    self.look(|_| ()).await;
                }
                () = sleep(self.pace.poll) => self.look(|_| ()).await,
            }
        }
    }

    /// Waits until nothing more happens.
    async fn gather(&mut self) {
        let end = Instant::now() + self.pace.longest;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let quiet = timeout(left.min(self.pace.quiet), next_event(&mut self.events)).await;
            if quiet.is_err() {
                return;
            }
        }
    }

    /// Looks at the files, on a thread that may wait for the disk.
    async fn look(&mut self, adjust: impl FnOnce(&mut Files)) {
        let Some(mut looker) = self.looker.take() else { return };
        adjust(&mut looker.files);
        let looked = tokio::task::spawn_blocking(move || {
            let changed = looker.look();
            (looker, changed)
        });
        // It fails only where the runtime ends, and this task with it.
        let Ok((looker, changed)) = looked.await else { return };
        if changed {
            self.sender.send_replace(Arc::new(looker.sources()));
        }
        self.looker = Some(looker);
    }
}

/// Waits for a sign of change; for ever where none can come.
async fn next_event(events: &mut Option<EventStream<[u8; 4096]>>) {
    if let Some(stream) = events {
        match stream.next().await {
            Some(Ok(_)) => return,
            // The kernel's queue is gone: what is left is to look from time to time.
            Some(Err(_)) | None => *events = None,
        }
    }
    future::pending().await
}

/// Looks at files, and watches their directories.
#[derive(Debug)]
struct Looker {
    files: Files,
    watches: Option<Watches>,
    watched: HashSet<WatchDescriptor>,
    /// Why changes are seen late.
    blind: Option<String>,
}

impl Looker {
    fn look(&mut self) -> bool {
        let blind = self.blind.clone();
        let mut changed = false;
        for _ in 0..MOST_LOOKS {
            // In this order, so that a change after the look makes an event.
            let more = self.watch();
            changed |= self.files.look();
            if !more {
                break;
            }
        }
        changed || blind != self.blind
    }

    /// Watches the directories as they are now, and no others. Says whether some are new.
    fn watch(&mut self) -> bool {
        let Some(watches) = &mut self.watches else { return false };
        let mask = WatchMask::CREATE
            | WatchMask::MODIFY
            | WatchMask::CLOSE_WRITE
            | WatchMask::ATTRIB
            | WatchMask::MOVE
            | WatchMask::DELETE
            | WatchMask::MOVE_SELF
            | WatchMask::DELETE_SELF
            | WatchMask::ONLYDIR;
        self.blind = None;
        let mut watched = HashSet::new();
        for directory in self.files.directories() {
            match watches.add(&directory, mask) {
                Ok(descriptor) => {
                    watched.insert(descriptor);
                }
                // It went away between the two calls, which makes an event further up.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => self.blind = Some(format!("{}: {error}", directory.display())),
            }
        }
        for old in self.watched.difference(&watched) {
            // That of a directory that is gone is gone already.
            let _ = watches.remove(old.clone());
        }
        let more = watched.difference(&self.watched).next().is_some();
        self.watched = watched;
        more
    }

    fn sources(&self) -> Sources {
        let mut sources = self.files.sources();
        if let Some(error) = &self.blind {
            sources.problems.push(format!(
                "changes of files with peers are seen only every {} s, as they can't be watched: \
                 {error}",
                PACE.poll.as_secs()
            ));
        }
        sources
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        io::Write,
        os::unix::fs::{PermissionsExt, symlink},
    };

    use evenkeel_core::peers::roster::Labels;

    use super::*;
    use crate::config::GroupSources;

    /// Longer than any look takes on a busy machine. No test waits for it but one that fails.
    const PATIENCE: Duration = Duration::from_secs(30);

    /// A directory with files, followed by inotify alone.
    struct Followed {
        dir: tempfile::TempDir,
        watch: Watch,
        receiver: watch::Receiver<Arc<Sources>>,
    }

    fn pattern(dir: &Path, name: &str) -> FilePattern {
        FilePattern::new(dir, name).unwrap()
    }

    fn content(lasts: &[u8]) -> String {
        let targets = lasts.iter().map(|last| format!("\"192.0.2.{last}\""));
        format!("[{{ \"targets\": [{}] }}]", targets.collect::<Vec<_>>().join(", "))
    }

    async fn follow(dir: tempfile::TempDir, patterns: &[&str]) -> Followed {
        let pace =
            Pace { quiet: Duration::from_millis(30), poll: Duration::from_secs(3600), ..PACE };
        let patterns = patterns.iter().map(|name| pattern(dir.path(), name)).collect();
        let (watch, receiver) = start_at(patterns, pace, Ok(Inotify::init().unwrap())).await;
        Followed { dir, watch, receiver }
    }

    /// The last parts of the addresses, and how many problems there are.
    fn seen(sources: &Sources) -> (Vec<u8>, usize) {
        let last = |entry: &Entry| match entry.address {
            IpAddr::V4(v4) => v4.octets()[3],
            IpAddr::V6(_) => 0,
        };
        let entries = sources.contents.values().flat_map(|entries| entries.iter());
        (entries.map(last).collect(), sources.all_problems().count())
    }

    impl Followed {
        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        fn write(&self, name: &str, lasts: &[u8]) {
            fs::write(self.path(name), content(lasts)).unwrap();
        }

        /// Waits until the files name these, with so many problems.
        async fn until(&mut self, lasts: &[u8], problems: usize) {
            let expected = (lasts.to_vec(), problems);
            let reached = self.receiver.wait_for(|sources| seen(sources) == expected);
            let reached = timeout(PATIENCE, reached).await.map(|reached| reached.is_ok());
            let now = self.receiver.borrow();
            assert_eq!(reached, Ok(true), "{:?} {:?} {:?}", seen(&now), now.problems, now.bad);
        }
    }

    fn with(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, lasts) in files {
            fs::write(dir.path().join(name), content(lasts)).unwrap();
        }
        dir
    }

    #[tokio::test]
    async fn peer_13_the_first_reading_is_there_at_once_and_each_way_of_writing_is_seen() {
        let mut followed =
            follow(with(&[("b.json", &[3]), ("a.json", &[1, 2])]), &["*.json"]).await;
        assert_eq!(seen(&followed.receiver.borrow()), (vec![1, 2, 3], 0));
        assert!(followed.receiver.borrow().complete);
        // In place.
        followed.write("a.json", &[1, 4]);
        followed.until(&[1, 4, 3], 0).await;
        // By a rename over it, as tools and editors do.
        followed.write(".a.json.tmp", &[5]);
        fs::rename(followed.path(".a.json.tmp"), followed.path("a.json")).unwrap();
        followed.until(&[5, 3], 0).await;
        // A new one, in pieces.
        let mut file = fs::File::create(followed.path("c.json")).unwrap();
        for piece in content(&[6, 7]).as_bytes().chunks(5) {
            file.write_all(piece).unwrap();
        }
        drop(file);
        followed.until(&[5, 3, 6, 7], 0).await;
        // Gone, back, and out of the pattern.
        fs::remove_file(followed.path("b.json")).unwrap();
        followed.until(&[5, 6, 7], 0).await;
        followed.write("b.json", &[8]);
        followed.until(&[5, 8, 6, 7], 0).await;
        fs::rename(followed.path("c.json"), followed.path("c.json.off")).unwrap();
        followed.until(&[5, 8], 0).await;
    }

    #[tokio::test]
    async fn peer_13_bad_content_leaves_the_former_in_force() {
        let mut followed = follow(with(&[("a.json", &[1, 2])]), &["a.json"]).await;
        for bad in ["", "[{", "[{\"targets\": [\"router1\"]}]"] {
            fs::write(followed.path("a.json"), bad).unwrap();
            followed.until(&[1, 2], 1).await;
            let problem = followed.receiver.borrow().bad.values().next().unwrap().clone();
            assert!(problem.contains("its former 2 peers stay"), "{problem}");
            assert!(followed.receiver.borrow().complete);
            followed.write("a.json", &[1, 2]);
            followed.until(&[1, 2], 0).await;
        }
        let sources = Arc::clone(&followed.receiver.borrow());
        assert!(sources.readings >= 4 && sources.failures >= 3, "{sources:?}");
    }

    #[tokio::test]
    async fn a_file_that_was_never_good_is_told_and_leaves_it_open_who_is_wanted() {
        let dir = with(&[("a.json", &[1])]);
        fs::write(dir.path().join("b.json"), "[").unwrap();
        let mut followed = follow(dir, &["*.json", "missing.json"]).await;
        assert_eq!(seen(&followed.receiver.borrow()), (vec![1], 2));
        assert!(!followed.receiver.borrow().complete);
        followed.write("b.json", &[2]);
        followed.until(&[1, 2], 1).await;
        // One that is not there names nobody, which is known.
        assert!(followed.receiver.borrow().complete);
        followed.write("missing.json", &[3]);
        followed.until(&[1, 2, 3], 0).await;
    }

    #[tokio::test]
    async fn a_directory_may_come_later_go_and_be_swapped() {
        let mut followed = follow(with(&[]), &["x/y/*.json"]).await;
        assert_eq!(seen(&followed.receiver.borrow()), (vec![], 0));
        fs::create_dir_all(followed.path("x/y")).unwrap();
        followed.write("x/y/a.json", &[1]);
        followed.until(&[1], 0).await;
        // Another directory in its place.
        fs::create_dir(followed.path("x/new")).unwrap();
        followed.write("x/new/b.json", &[2]);
        fs::rename(followed.path("x/y"), followed.path("x/old")).unwrap();
        fs::rename(followed.path("x/new"), followed.path("x/y")).unwrap();
        followed.until(&[2], 0).await;
        followed.write("x/y/b.json", &[3]);
        followed.until(&[3], 0).await;
        fs::remove_dir_all(followed.path("x")).unwrap();
        followed.until(&[], 0).await;
        fs::create_dir_all(followed.path("x/y")).unwrap();
        followed.write("x/y/a.json", &[4]);
        followed.until(&[4], 0).await;
    }

    #[tokio::test]
    async fn symbolic_links_are_followed_as_kubernetes_swaps_them() {
        let dir = with(&[]);
        let path = |name: &str| dir.path().join(name);
        for (version, lasts) in [("..1", [1]), ("..2", [2])] {
            fs::create_dir(path(version)).unwrap();
            fs::write(path(version).join("a.json"), content(&lasts)).unwrap();
        }
        symlink("..1", path("..data")).unwrap();
        symlink("..data/a.json", path("a.json")).unwrap();
        let mut followed = follow(dir, &["*.json"]).await;
        assert_eq!(seen(&followed.receiver.borrow()), (vec![1], 0));
        symlink("..2", followed.path("..data_tmp")).unwrap();
        fs::rename(followed.path("..data_tmp"), followed.path("..data")).unwrap();
        followed.until(&[2], 0).await;
        // What the link points at is written where it is.
        followed.write("..2/a.json", &[3]);
        followed.until(&[3], 0).await;
        fs::remove_file(followed.path("..data")).unwrap();
        followed.until(&[], 0).await;
    }

    #[tokio::test]
    async fn other_patterns_keep_what_was_good() {
        let mut followed = follow(with(&[("a.json", &[1]), ("b.json", &[2])]), &["a.json"]).await;
        fs::write(followed.path("a.json"), "[").unwrap();
        followed.until(&[1], 1).await;
        let both = ["a.json", "b.json"].map(|name| pattern(followed.dir.path(), name));
        let sources = followed.watch.follow(both.into()).await;
        assert_eq!(seen(&sources), (vec![1, 2], 1));
        assert_eq!(seen(&followed.receiver.borrow()), (vec![1, 2], 1));
        // The new one is watched, and the old one no longer.
        followed.write("b.json", &[3]);
        followed.until(&[1, 3], 1).await;
        let sources = followed.watch.follow([pattern(followed.dir.path(), "b.json")].into()).await;
        assert_eq!(seen(&sources), (vec![3], 0));
    }

    #[tokio::test]
    async fn what_reports_nothing_is_looked_at_from_time_to_time() {
        let dir = with(&[("a.json", &[1])]);
        let pace = Pace { poll: Duration::from_millis(20), ..PACE };
        let patterns = [pattern(dir.path(), "a.json")].into();
        let (watch, receiver) = start_at(patterns, pace, Err("no inotify here".to_owned())).await;
        let problem = receiver.borrow().problems[0].clone();
        assert!(problem.contains("every 30 s, as they can't be watched: no inotify"), "{problem}");
        let mut followed = Followed { dir, watch, receiver };
        followed.write("a.json", &[2]);
        followed.until(&[2], 1).await;
        fs::remove_file(followed.path("a.json")).unwrap();
        followed.until(&[], 2).await;
    }

    #[test]
    fn a_file_is_read_again_only_when_it_was_written() {
        let dir = with(&[("a.json", &[1])]);
        let mut files = Files::new([pattern(dir.path(), "*.json")].into());
        assert!(files.look());
        assert!(!files.look());
        assert_eq!(files.sources().readings, 1);
        // Of the same length, and with its former time.
        let path = dir.path().join("a.json");
        let written = fs::metadata(&path).unwrap().modified().unwrap();
        let other = dir.path().join("other");
        fs::write(&other, content(&[2])).unwrap();
        fs::File::options().append(true).open(&other).unwrap().set_modified(written).unwrap();
        fs::rename(&other, &path).unwrap();
        assert!(files.look());
        assert_eq!(seen(&files.sources()), (vec![2], 0));
        // Bad content is parsed once, and told once.
        fs::write(&path, "[").unwrap();
        assert!(files.look());
        assert!(!files.look());
        assert_eq!((files.sources().readings, files.sources().failures), (2, 1));
    }

    #[test]
    fn what_cannot_be_read_keeps_its_peers_and_is_tried_again() {
        let dir = with(&[("a.json", &[1])]);
        let mut files = Files::new([pattern(dir.path(), "a.json")].into());
        files.look();
        let path = dir.path().join("a.json");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(files.look());
        assert_eq!(seen(&files.sources()), (vec![1], 1));
        assert!(!files.look(), "it is the same problem");
        assert_eq!(files.sources().failures, 2);
        fs::remove_dir(&path).unwrap();
        fs::write(&path, content(&[2])).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(files.look());
        assert_eq!(seen(&files.sources()), (vec![2], 0));
    }

    // PEER-7, PEER-13.
    #[test]
    fn the_wanted_come_in_the_order_of_groups_lists_and_files() {
        let dir = with(&[("b.json", &[5]), ("a.json", &[7, 6]), ("z.json", &[8])]);
        fs::create_dir(dir.path().join("b")).unwrap();
        fs::write(dir.path().join("b/x.json"), content(&[99])).unwrap();
        let address = |last: u8| IpAddr::from([192, 0, 2, last]);
        let labels = Labels::from([("site".to_owned(), "a".to_owned())]);
        let files = |names: &[&str]| names.iter().map(|name| pattern(dir.path(), name)).collect();
        let first = GroupSources {
            peers: vec![address(2), address(1)],
            disabled: vec![address(1), address(7)],
            enabled: true,
            labels: Arc::clone(&labels),
            files: files(&["z.json", "*.json"]),
        };
        let second = GroupSources {
            peers: vec![address(3)],
            files: files(&["b.json"]),
            ..GroupSources::default()
        };
        let peers = Peers { sources: vec![first, second], ..Peers::default() };
        let mut followed = Files::new(patterns(&peers));
        followed.look();
        let wanted = wanted(&peers, &followed.sources());
        let shown = wanted.iter().map(|wanted| {
            let IpAddr::V4(v4) = wanted.address else { panic!("{wanted:?}") };
            (v4.octets()[3], wanted.group, wanted.enabled, wanted.labels.len())
        });
        let expected = [
            (2, 0, true, 1),
            (1, 0, false, 1),
            (8, 0, true, 0),
            (7, 0, false, 0),
            (6, 0, true, 0),
            (5, 0, true, 0),
            (8, 0, true, 0),
            (3, 1, false, 0),
            (5, 1, false, 0),
        ];
        assert_eq!(shown.collect::<Vec<_>>(), expected);
    }
}
