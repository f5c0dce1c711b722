//! Starts a service as its child, restarts it when it ends, and protects it with a proxy.
//!
//! ```text
//! cargo run --release -p sidecar -- --listen 127.0.0.1:8080 --to http://127.0.0.1:8001 \
//!     --admin 127.0.0.1:9901 -- python3 -m http.server 8001
//! ```
//!
//! Clients call the address of `--listen`. The proxy has a limit of requests, a circuit breaker, retries and a time
//! limit. While the child is down, the sidecar answers 503 with `Retry-After`. Without arguments the program prints how
//! to use it. The guide has a page on it: `buttress_edge::guide::sidecar`.

#[cfg(unix)]
mod admin;
#[cfg(unix)]
mod arguments;
#[cfg(unix)]
mod front;
#[cfg(unix)]
mod gate;
#[cfg(unix)]
mod limits;
#[cfg(unix)]
mod probe;
#[cfg(unix)]
mod run;
#[cfg(unix)]
mod standing;
#[cfg(unix)]
mod supervise;

use std::process::ExitCode;

/// The exit code of wrong arguments, and of an address that cannot be used.
#[cfg(unix)]
const REFUSED: u8 = 2;

#[cfg(unix)]
fn main() -> ExitCode {
    let given: Vec<_> = std::env::args_os().skip(1).collect();
    if given.is_empty() {
        println!("{}", arguments::USE);
        return ExitCode::SUCCESS;
    }
    let arguments = match arguments::Arguments::parse(given) {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("sidecar: {error}\n\n{}", arguments::USE);
            return ExitCode::from(REFUSED);
        }
    };
    match run::run(arguments) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("sidecar: {error}");
            ExitCode::from(REFUSED)
        }
    }
}

#[cfg(not(unix))]
fn main() -> ExitCode {
    eprintln!("sidecar: this program needs the process groups of Unix");
    ExitCode::FAILURE
}
