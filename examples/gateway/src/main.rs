//! Runs an HTTP gateway in front of two services, through an outage, a shift to a new service and a restart,
//! all under load.
//!
//! `orders` has two instances and `prices` has one. All are real servers on loopback ports. The program sends a known
//! number of requests in each act, and compares the answers, the numbers of the gateway and the numbers of the services
//! with what must come out. It ends with 1 if they differ.
//!
//! ```text
//! cargo run --release -p gateway             # a second, then the account
//! cargo run --release -p gateway -- --serve  # until Ctrl-C, with requests to try
//! cargo run --release -p gateway -- --config examples/gateway/gateway.toml  # the routes of a file; SIGHUP reads it again
//! cargo run --release -p gateway --features tls -- --config FILE  # the same with a section `tls`
//! ```

mod account;
mod acts;
mod admission;
mod client;
#[cfg(unix)]
mod config;
mod gateway;
#[cfg(unix)]
mod log;
mod restart;
#[cfg(unix)]
mod secure;
mod services;
mod shift;

use std::process::ExitCode;

use buttress::{Clock, VirtualClock};
use buttress_edge::RouteStats;
use tower::BoxError;

use account::Account;
use client::Client;
use gateway::{Gateway, Limits};
use services::Services;

#[tokio::main]
async fn main() -> Result<ExitCode, BoxError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match *arguments {
        [] => run().await,
        ["--serve"] => serve().await,
        #[cfg(unix)]
        ["--config", file] => config::run(std::path::Path::new(file)).await,
        _ => Err("usage: gateway [--serve | --config FILE]".into()),
    }
}

async fn run() -> Result<ExitCode, BoxError> {
    let begin = Clock::default().now();
    let mut services = Services::start().await?;
    // The circuit and the limits have a clock that only this program moves, so that each run has the same account.
    let clock = VirtualClock::new();
    let first = Gateway::start(&services, &Limits::new(&clock.clock())?).await?;
    let client = Client::new();
    let mut account = Account::default();

    acts::calm(&client, &first, &services, &mut account).await?;
    acts::refused(&client, &first, &services, &mut account).await?;
    acts::limits(&client, &first, &services, &mut account).await?;
    acts::retries(&client, &first, &services, &mut account).await?;
    acts::clients_leave(&client, &first, &services, &mut account).await?;
    acts::outages(&client, &first, &mut services, &clock, &mut account).await?;
    shift::under_load(&client, &mut account).await?;
    let second = Gateway::start(&services, &Limits::new(&clock.clock())?).await?;
    restart::under_load(first, &second, &services, &mut account).await?;

    let adds_up = account.print();
    println!("\nTook {:.1} seconds.", Clock::default().now().duration_since(begin).as_secs_f64());
    Ok(if adds_up { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn serve() -> Result<ExitCode, BoxError> {
    let services = Services::start().await?;
    services.prices.facts.gate.open();
    let gateway = Gateway::start(&services, &Limits::new(&Clock::default())?).await?;
    let (at, key) = (gateway.address, admission::ANN);
    println!("curl -i http://{at}/api/prices/items/7");
    println!("curl -i -H 'x-api-key: {key}' http://{at}/api/orders/items/7");
    println!("curl -i -H 'x-api-key: {key}' -d '{{}}' http://{at}/api/orders/items");
    println!("curl -i http://{at}/api/orders/items/7          # 401");
    println!("curl -i --path-as-is http://{at}/api/prices/../orders/items/7  # 400");
    println!("The gateway serves until Ctrl-C, and then drains.");
    tokio::signal::ctrl_c().await?;
    let proxy = gateway.proxy.clone();
    let served = gateway.stop().await?;
    println!("\n{} connections, {} of them cut off by the drain", served.accepted, served.cut);
    for (name, stats) in proxy.stats() {
        let RouteStats { begun, answered, failed, refused, abandoned, .. } = stats;
        println!(
            "{name:<8} begun {begun} = answered {answered} + failed {failed} + refused {} + abandoned {abandoned}",
            refused.total()
        );
    }
    Ok(ExitCode::SUCCESS)
}
