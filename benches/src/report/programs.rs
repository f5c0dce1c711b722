//! Builds the measuring programs and runs them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

use super::callgrind;
use super::figures::{Finding, Table, figure};
use super::lackey::Told;
use super::profile;

/// Returns the root of the project, where the report goes. cargo gives the current path of the
/// package, which may differ from the path of the build.
pub fn root() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR");
    let package = package.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&package).parent().expect("the package is inside of the project").to_owned()
}

/// The version of valgrind, if there is one.
pub fn valgrind() -> Option<String> {
    let output = Command::new("valgrind").arg("--version").output().ok()?;
    let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then_some(version)
}

/// The features of a build.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum With {
    Nothing,
    /// Events and metrics.
    Events,
    /// Databases, and the peers that use them.
    Durable,
    /// Simulators.
    Simulators,
}

/// The programs of one build.
pub struct Programs {
    directory: PathBuf,
    /// The names of the programs that run again. `None`: every program runs.
    anew: Option<Vec<String>>,
}

impl Programs {
    /// Builds `names` next to this program. A build with events goes to a folder below it, because
    /// the same programs are also built without events.
    pub fn build(names: &[&str], with: With) -> Self {
        let target = if with == With::Events { target().join("events") } else { target() };
        let mut build = cargo("build", &target);
        for name in names {
            build.args(["--bin", name]);
        }
        match with {
            With::Nothing => {}
            With::Events => drop(build.args(["--features", "events"])),
            With::Durable => drop(build.args(["--features", "durable"])),
            With::Simulators => drop(build.args(["--features", "simulators"])),
        }
        let built = build.status().expect("cargo runs");
        assert!(built.success(), "the measuring programs do not build");
        Self { directory: target.join("measure"), anew: None }
    }

    /// Chooses the programs that run again, by name. `None`: every program runs. For any other program its output of the
    /// last run is read, unless the program was built after that run.
    #[must_use]
    pub fn anew(mut self, names: Option<&[&str]>) -> Self {
        self.anew = names.map(|names| names.iter().map(|&name| name.to_owned()).collect());
        self
    }

    /// Runs a program and returns its tab-separated lines.
    fn run(&self, name: &str, arguments: &[&str]) -> Vec<Vec<String>> {
        let program = self.directory.join(name);
        if !arguments.is_empty() {
            return lines(&output(Command::new(program).args(arguments)));
        }
        let kept = self.directory.join(format!("{name}.tsv"));
        let again = self.anew.as_ref().is_none_or(|anew| anew.iter().any(|anew| anew == name));
        if !again && changed(&kept) > changed(&program) {
            return lines(&fs::read_to_string(kept).expect("what was written can be read"));
        }
        let text = output(&mut Command::new(program));
        fs::write(kept, &text).expect("the target folder can be written to");
        lines(&text)
    }

    /// Measures the instructions per call, if valgrind is available.
    pub fn instructions(&self, table: &mut Table, arguments: &[&str]) -> bool {
        if valgrind().is_none() {
            return false;
        }
        let parts = self.directory.join(format!("callgrind-{}", std::process::id()));
        fs::create_dir_all(&parts).expect("the target folder can be written to");
        let mut valgrind = Command::new("valgrind");
        valgrind.args(["-q", "--tool=callgrind", "--dump-before=*measurement_mark*"]);
        valgrind.arg(format!("--callgrind-out-file={}", parts.join("out").display()));
        valgrind.arg(self.directory.join("instructions")).args(arguments);
        for (index, line) in lines(&output(&mut valgrind)).iter().enumerate() {
            let part = callgrind::part_of_candidate(&parts, index);
            let part = part.expect("callgrind wrote each part");
            let total = callgrind::total(&part).expect("each part has a total");
            let calls = number(&line[2]).expect("the number of calls");
            let figures = table.entry(&line[0], &line[1]);
            figures.instructions = Some(total as f64 / calls);
            figures.profile = profile::read(&part, calls);
        }
        fs::remove_dir_all(&parts).expect("what was created can be removed");
        true
    }

    /// Measures the locked read-modify-writes per call, if valgrind is available.
    pub fn contention(&self, table: &mut Table, arguments: &[&str]) -> bool {
        if valgrind().is_none() {
            return false;
        }
        let trace = self.directory.join(format!("lackey-{}", std::process::id()));
        let mut valgrind = Command::new("valgrind");
        valgrind.args(["--tool=lackey", "--trace-mem=yes"]);
        valgrind.arg(format!("--log-file={}", trace.display()));
        valgrind.arg(self.directory.join("contention")).args(arguments);
        let text = output(&mut valgrind);
        let told = Told::of(&text).expect("what `contention` writes");
        let written = told.trace(&trace).expect("the trace of `contention`");
        for ([row, candidate, _], written) in told.candidates.iter().zip(written) {
            let figures = table.entry(row, candidate);
            figures.locked = Some(written.locked);
            figures.locked_shared = Some(written.locked_shared);
            figures.plain_shared = Some(written.plain_shared);
        }
        fs::remove_file(&trace).expect("what was written can be removed");
        true
    }

    pub fn allocations(&self, table: &mut Table, arguments: &[&str]) {
        for line in self.run("allocations", arguments) {
            let figures = table.entry(&line[0], &line[1]);
            [figures.allocations, figures.bytes, figures.future, figures.idle] =
                [2, 3, 4, 5].map(|field| number(&line[field]));
        }
    }

    pub fn timings(&self, table: &mut Table, arguments: &[&str]) {
        for line in self.run("timings", arguments) {
            let figures = table.entry(&line[0], &line[1]);
            figures.nanos = number(&line[2]);
            let rounds = line[3].split(',').filter(|round| !round.is_empty());
            figures.nanos_of_two = rounds.map(number).collect();
        }
    }

    /// Returns the findings of the programs `memory`, `probes`, `durable` and `simulators`.
    pub fn findings(&self, name: &str) -> Vec<Finding> {
        let found = self.run(name, &[]);
        let finding = |line: &Vec<String>| Finding {
            what: line[0].clone(),
            who: line[1].clone(),
            value: line[2].parse().expect("a value"),
            text: line.last().expect("a text").clone(),
        };
        found.iter().map(finding).collect()
    }
}

/// The tab-separated lines of a text.
fn lines(text: &str) -> Vec<Vec<String>> {
    text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}

/// When a file was last written; `None` if there is none.
fn changed(file: &Path) -> Option<SystemTime> {
    fs::metadata(file).and_then(|file| file.modified()).ok()
}

/// Returns the length in bytes of a program without its symbols. Only the last step of its build
/// differs from `measure`.
pub fn stripped(name: &str) -> u64 {
    let target = target();
    let mut build = cargo("rustc", &target);
    build.args(["--bin", name, "--", "-C", "strip=symbols"]);
    assert!(build.status().expect("cargo runs").success(), "{name} does not build");
    fs::metadata(target.join("measure").join(name)).expect("it was built").len()
}

/// Returns the target folder of this program.
fn target() -> PathBuf {
    let this = std::env::current_exe().expect("this program has a path");
    let profile = this.parent().expect("it is in the folder of its profile");
    profile.parent().expect("which is in the target folder").to_owned()
}

/// The command of cargo that builds with the profile `measure`.
fn cargo(command: &str, target: &Path) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args([command, "--locked", "--quiet", "--profile", "measure"]);
    build.arg("--manifest-path").arg(root().join("benches").join("Cargo.toml"));
    build.arg("--target-dir").arg(target);
    build
}

/// Runs a command and returns its standard output. Its errors go to this program's standard error.
fn output(command: &mut Command) -> String {
    let output = command.stderr(Stdio::inherit()).output().expect("a measuring program runs");
    assert!(output.status.success(), "a measuring program failed: {command:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Reads a number; `-` is `None`.
fn number(field: &str) -> Option<f64> {
    figure(field).expect("a measuring program writes numbers")
}
