use std::convert::Infallible;

use buttress::split::{Config, FallBack, Split};
use tower::{Service, util::BoxCloneSyncService};

type Route = BoxCloneSyncService<u32, u16, Infallible>;

fn serve(_: impl Service<u32>) {}

fn split(old: Route, new: Route) {
    let split = Split::new(old, new, Config::new()).unwrap();
    serve(split.fall_back(FallBack::unsent(["new-side"])));
}

fn main() {}
