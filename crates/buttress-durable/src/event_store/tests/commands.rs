//! Commands as a service, below layers and in a dispatch.

use std::time::Duration;

use buttress::time_limit::TimeLimitLayer;
use tower::{BoxError, ServiceBuilder, ServiceExt};

use super::super::*;
use super::orders::{Order, OrderCommand, Refusal};
use super::{repository, store};
use crate::dispatch::{Dispatch, Request};

struct Submit {
    order: String,
}

impl Addressed for Submit {
    type Aggregate = Order;

    fn into_command(self) -> (String, OrderCommand) {
        (self.order, OrderCommand::Submit)
    }
}

impl Request for Submit {
    type Response = Loaded<Order>;
    type Error = BoxError;
}

#[tokio::test]
async fn commands_are_a_service_that_layers_and_dispatch_take() {
    let commands = Commands::new(repository(&store()));
    for command in [OrderCommand::Create, OrderCommand::AddMany(2)] {
        let command = Command::<Order>::new("7", command);
        commands.clone().oneshot(command).await.unwrap();
    }
    let limited = ServiceBuilder::new()
        .layer(TimeLimitLayer::after(Duration::from_secs(1)))
        .map_err(BoxError::from)
        .service(commands);
    let bus = Dispatch::builder().on::<Submit, _>(limited).unwrap().build().unwrap();
    let done = bus.send(Submit { order: "7".to_owned() }).await.unwrap();
    assert_eq!((done.version.get(), done.state.total()), (4, 2));
    let refused = bus.send(Submit { order: "7".to_owned() }).await.unwrap_err();
    let failed = refused.downcast_ref::<Failed<Refusal>>();
    assert!(matches!(failed, Some(Failed::Refused(Refusal::Submitted))), "{refused:?}");
}
