//! Orders as events, with consumers that are killed repeatedly.
//!
//! An order is an aggregate. The shop writes its events, its row and the message about it in one transaction. A relay
//! publishes the messages. Billing writes an invoice for each order, and shipping a shipment, each once through the
//! inbox. A projection keeps a list of orders. Relay, consumers and projection run in separate processes of this
//! program, which get a SIGKILL again and again and are started again: about every two seconds, over Kafka every twelve. Handlers fail, and billing cannot handle
//! some orders until it is fixed: they become dead letters, and are replayed. The list of orders is damaged by a
//! mistake, and rebuilt from the events while all this runs.
//!
//! At the end every order must have one invoice and one shipment, and the list must be the sum of the events. The account
//! shows whether that is true, and the program fails otherwise.
//!
//! ```text
//! cargo run --release -p events    # over a bus in the process of the relay, about 15 seconds
//! cargo run --release -p events --features redis -- --broker redis://127.0.0.1:6379
//! cargo run --release -p events --features nats -- --broker nats://127.0.0.1:4222
//! cargo run --release -p events --features amqp -- --broker amqp://127.0.0.1:5672
//! .ci/kafka sh -c 'cargo run --release -p events --features kafka -- --broker kafka://$BUTTRESS_KAFKA'
//! ```
//!
//! A run over RabbitMQ takes about 20 seconds, and a run over Kafka about a minute. The streams, queues or topics of a run
//! stay on the broker. Their names begin with `buttress-events-` and the id of the process.
//!
//! A SIGKILL is not a loss of power: the operating system still has all writes before it.

mod account;
mod aggregate;
mod audit;
mod broker;
mod crew;
mod demonstration;
mod handlers;
mod list;
mod order;
#[cfg(feature = "amqp")]
mod over_amqp;
#[cfg(feature = "kafka")]
mod over_kafka;
#[cfg(feature = "nats")]
mod over_nats;
#[cfg(feature = "redis")]
mod over_redis;
mod shop;
mod tables;
mod worker;

use std::process::ExitCode;

use tower::BoxError;

use broker::Broker;

#[tokio::main]
async fn main() -> Result<ExitCode, BoxError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        [crew::WORKER, assignment @ ..] => {
            worker::work(crew::assignment(assignment)?).await?;
            Ok(ExitCode::SUCCESS)
        }
        [] => run(Broker::InProcess).await,
        ["--broker", url] => run(url.parse()?).await,
        _ => Err("usage: events [--broker URL]".into()),
    }
}

async fn run(broker: Broker) -> Result<ExitCode, BoxError> {
    let balances = demonstration::run(broker).await?;
    Ok(if balances { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
