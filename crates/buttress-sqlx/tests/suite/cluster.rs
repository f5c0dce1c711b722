//! Clusters of PostgreSQL that a test starts itself.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::db::fresh_schema;

const PROGRAMS: [&str; 6] = ["initdb", "pg_basebackup", "pg_ctl", "pg_dump", "pg_resetwal", "psql"];

/// A cluster in a separate folder. Dropping it stops the server and removes the folder.
pub(crate) struct Cluster {
    programs: PathBuf,
    folder: PathBuf,
    port: u16,
}

/// Returns the folder with PostgreSQL's programs.
fn programs() -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    let initdb = std::env::split_paths(&folders).map(|folder| folder.join("initdb"));
    let of_debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let of_debian = of_debian.map(|version| version.path().join("bin/initdb"));
    let found = initdb.chain(of_debian).filter_map(|file| file.canonicalize().ok());
    let mut folders = found.filter_map(|file| file.parent().map(Path::to_owned));
    folders.find(|folder| PROGRAMS.iter().all(|program| folder.join(program).is_file()))
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

fn fails(output: &Output) -> Option<String> {
    let text = || String::from_utf8_lossy(&output.stderr).into_owned();
    (!output.status.success()).then(text)
}

impl Cluster {
    /// Creates a cluster that does not run. Prints and returns `None` if the programs are not installed, or if this
    /// process is root and cannot run them as the user `postgres`.
    pub(crate) fn create(test: &str) -> Option<Self> {
        let Some(programs) = programs() else {
            println!("skipped {test}: {PROGRAMS:?} are not installed");
            return None;
        };
        let Some(cluster) = Self::in_a_folder(programs) else {
            println!("skipped {test}: root has no user postgres to run a cluster");
            return None;
        };
        let data = cluster.data();
        cluster.run(
            "initdb",
            &["-D", &data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"],
        );
        Some(cluster)
    }

    /// Makes the folder. Returns `None` if there is no user who may own it.
    fn in_a_folder(programs: PathBuf) -> Option<Self> {
        let folder = std::env::temp_dir().join(fresh_schema());
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        fs::create_dir(&folder).unwrap();
        let cluster = Self { programs, folder, port };
        if is_root() {
            let owned = Command::new("chown").arg("postgres").arg(&cluster.folder).output();
            owned.ok().filter(|owned| owned.status.success())?;
        }
        Some(cluster)
    }

    /// Creates and starts a replica of this running cluster.
    pub(crate) fn replicate(&self) -> Self {
        let replica = Self::in_a_folder(self.programs.clone()).unwrap();
        let data = replica.data();
        replica.run(
            "pg_basebackup",
            &["-d", &self.url(), "-D", &data, "-R", "-X", "stream", "-c", "fast", "--no-sync"],
        );
        replica.start();
        replica
    }

    fn data(&self) -> String {
        self.folder.join("data").display().to_string()
    }

    /// Runs a program of PostgreSQL's. Returns what it prints.
    fn run(&self, program: &str, arguments: &[&str]) -> Vec<u8> {
        let program = self.programs.join(program);
        let mut command = if is_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(&program);
            command
        } else {
            Command::new(&program)
        };
        // The server keeps the descriptors of `pg_ctl`, so a pipe would never end.
        let log = self.folder.join("output");
        let starts = arguments.contains(&"start");
        if starts {
            command.stdout(Stdio::null()).stderr(fs::File::create(&log).unwrap());
        }
        let output = command.args(arguments).current_dir(&self.folder).output().unwrap();
        if let Some(error) = fails(&output) {
            let log = fs::read_to_string(log).unwrap_or_default();
            panic!("{}: {error}{log}", program.display());
        }
        output.stdout
    }

    pub(crate) fn stop(&self) {
        self.run("pg_ctl", &["-D", &self.data(), "-w", "-m", "fast", "stop"]);
    }

    /// Sets the number of the next transaction to a later one. The cluster must be stopped.
    pub(crate) fn set_next_transaction(&self, next: u64) {
        self.run("pg_resetwal", &["-D", &self.data(), "-x", &next.to_string()]);
    }

    pub(crate) fn start(&self) {
        let options = format!(
            "-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off",
            self.port
        );
        self.run("pg_ctl", &["-D", &self.data(), "-w", "-t", "60", "-o", &options, "start"]);
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Returns the dump of a schema.
    pub(crate) fn dump(&self, schema: &str) -> Vec<u8> {
        self.run("pg_dump", &["-d", &self.url(), "-n", schema])
    }

    /// Restores a dump.
    pub(crate) fn restore(&self, dump: &[u8]) {
        let file = self.folder.join("dump.sql");
        fs::write(&file, dump).unwrap();
        let file = file.display().to_string();
        self.run("psql", &["-d", &self.url(), "-q", "-v", "ON_ERROR_STOP=1", "-f", &file]);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if Path::new(&self.data()).join("postmaster.pid").exists() {
            self.run("pg_ctl", &["-D", &self.data(), "-m", "immediate", "stop"]);
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}
