//! The packages: what is in them, what they leave behind, and the service that they install, in a Debian of
//! its own that `tests/setup` makes.

mod booted;
mod debian;
mod root;
mod rpm;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use crate::common::{BINARY, Lab, output, repository};

/// The packages of two revisions of this version, with the binary that the tests are for.
static PACKAGES: LazyLock<[Packages; 2]> =
    LazyLock::new(|| [Packages::build("1", "first"), Packages::build("2", "second")]);

/// What one run of `packaging/build` has made.
struct Packages {
    deb: PathBuf,
    rpm: PathBuf,
}

impl Packages {
    fn build(revision: &str, directory: &str) -> Packages {
        let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("packages").join(directory);
        fs::remove_dir_all(&out).ok();
        let mut build = Command::new(repository("packaging/build"));
        build.args(["--binary", BINARY, "--revision", revision, "--out"]).arg(&out);
        output(&mut build);
        let version = env!("CARGO_PKG_VERSION");
        let (machine, debians) = match std::env::consts::ARCH {
            "aarch64" => ("aarch64", "arm64"),
            other => (other, "amd64"),
        };
        Packages {
            deb: out.join(format!("evenkeel_{version}-{revision}_{debians}.deb")),
            rpm: out.join(format!("evenkeel-{version}-{revision}.{machine}.rpm")),
        }
    }
}

/// What a program has to say, on both of its outputs.
fn says(program: &str, arguments: &[&str], file: &Path) -> String {
    let mut command = Command::new(program);
    let said = command.args(arguments).arg(file).output().expect("`tests/setup` has installed it");
    String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned()
}

#[test]
fn the_packages_are_the_same_octets_each_time_and_nobody_complains_of_them() {
    let _lab = Lab::new();
    let again = Packages::build("1", "again");
    let [first, _] = &*PACKAGES;
    for (one, other) in [(&first.deb, &again.deb), (&first.rpm, &again.rpm)] {
        let same = fs::read(one).expect("a package") == fs::read(other).expect("a package");
        assert!(same, "{} and {} differ", one.display(), other.display());
    }
    // What they would say, and is meant to be so, is in files of ours with the reason.
    let lintian = says("lintian", &["--allow-root"], &first.deb);
    assert_eq!(lintian.replace("running with root privileges is not recommended!\n", ""), "");
    let filters = repository("packaging/rpmlint.toml");
    let rpmlint = says("rpmlint", &["-c", filters.to_str().expect("a plain path")], &first.rpm);
    assert!(
        rpmlint.contains("1 packages and 0 specfiles checked; 0 errors, 0 warnings"),
        "{rpmlint}"
    );
    // Both list each library that is linked.
    let licences = "./usr/share/doc/evenkeel/third-party-licences.txt.gz";
    let unpack =
        format!("dpkg-deb --fsys-tarfile {} | tar xO {licences} | zcat", first.deb.display());
    let list = output(Command::new("sh").args(["-c", &unpack]));
    for library in ["\n  tokio ", "\n  rusqlite ", "\n  ring ", "Permission is hereby granted"] {
        assert!(list.contains(library), "{library:?} is not in the list of licences");
    }
}

#[test]
fn man_pages_and_completions_are_sound() {
    let _lab = Lab::new();
    let share = tempfile::tempdir().expect("a temporary directory");
    output(Command::new(BINARY).arg("generate").arg(share.path()));
    let mut pages = 0;
    for section in ["man5", "man8"] {
        for page in fs::read_dir(share.path().join("man").join(section)).expect("pages") {
            let page = page.expect("a readable directory").path();
            pages += 1;
            let warnings = ["--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", "-P", "cat"];
            let mut man = Command::new("man");
            man.args(warnings).arg(&page).env("LC_ALL", "C.UTF-8").env("MANWIDTH", "80");
            let said = man.output().expect("`tests/setup` has installed it").stderr;
            assert_eq!(String::from_utf8_lossy(&said), "", "{}", page.display());
            assert_eq!(says("mandoc", &["-T", "lint", "-W", "warning"], &page), "");
        }
    }
    assert!(pages > 10, "only {pages}");

    // Each shell is asked what may follow.
    let path = |name: &str| share.path().join(name).to_str().expect("a plain path").to_owned();
    let bash = "source \"$1\"; COMP_WORDS=(evenkeel sta); COMP_CWORD=1; _evenkeel evenkeel sta evenkeel; \
                echo \"${COMPREPLY[@]}\"";
    let bash_file = path("bash-completion/completions/evenkeel");
    let answer = output(Command::new("bash").args(["-c", bash, "bash", &bash_file]));
    assert_eq!(answer, "status\n");
    let fish_file = path("fish/vendor_completions.d/evenkeel.fish");
    let fish = format!("source {fish_file}; complete -C 'evenkeel status --form'");
    let answer = output(Command::new("fish").args(["--no-config", "-c", &fish]));
    assert!(answer.starts_with("--format"), "{answer}");
    let zsh_file = path("zsh/site-functions/_evenkeel");
    output(Command::new("zsh").args(["-f", "-n", &zsh_file]));
    let zsh = fs::read_to_string(&zsh_file).expect("it was written");
    assert!(zsh.starts_with("#compdef evenkeel\n") && zsh.contains("--format"), "{zsh}");
}
