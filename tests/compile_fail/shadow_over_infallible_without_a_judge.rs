use std::convert::Infallible;

use buttress::shadow::{Config, Shadow};
use tower::{Service, util::BoxCloneSyncService};

type Route = BoxCloneSyncService<u32, u16, Infallible>;

fn serve(_: impl Service<u32>) {}

fn mirrored(primary: Route, mirror: Route) {
    let copy = |request: &u32| Some(*request);
    serve(Shadow::new(primary, mirror, copy, Config::new()).unwrap());
}

fn main() {}
