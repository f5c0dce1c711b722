//! Calls a backend: with `ServiceClient`, with the client of hyper-util that it is built on, or with layers of tower
//! over that client.

use std::future::{Ready, ready};
use std::sync::Arc;
use std::time::Duration;

use buttress_edge::client::ServiceClient;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::Uri;
use hyper::body::{Bytes, Incoming};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use servers::Error;
use servers::calls::{Calls, measure};
use tower::retry::Policy;
use tower::retry::budget::{Budget, TpsBudget};
use tower::{ServiceBuilder, ServiceExt};

type Bare = Client<HttpConnector, Empty<Bytes>>;

/// The time limits of `ServiceClient`, so that all clients have the same.
const TOTAL: Duration = Duration::from_secs(12);
const ATTEMPT: Duration = Duration::from_secs(5);

fn bare() -> Bare {
    Client::builder(TokioExecutor::new()).build_http()
}

/// Reads a successful answer, and returns its length.
async fn length(answer: Response<Incoming>) -> Result<usize, Error> {
    if !answer.status().is_success() {
        return Err(format!("an answer with {}", answer.status()).into());
    }
    Ok(answer.into_body().collect().await?.to_bytes().len())
}

/// Repeats requests that failed, twice at most, within a budget.
#[derive(Clone)]
struct Repeats {
    left: u32,
    budget: Arc<TpsBudget>,
}

impl Policy<Request<Empty<Bytes>>, Response<Incoming>, Error> for Repeats {
    type Future = Ready<()>;

    fn retry(
        &mut self,
        _: &mut Request<Empty<Bytes>>,
        result: &mut Result<Response<Incoming>, Error>,
    ) -> Option<Ready<()>> {
        if result.as_ref().is_ok_and(|answer| !answer.status().is_server_error()) {
            self.budget.deposit();
            return None;
        }
        if self.left == 0 || !self.budget.withdraw() {
            return None;
        }
        self.left -= 1;
        Some(ready(()))
    }

    fn clone_request(&mut self, request: &Request<Empty<Bytes>>) -> Option<Request<Empty<Bytes>>> {
        request.method().is_idempotent().then(|| request.clone())
    }
}

fn main() -> Result<(), Error> {
    let url = Calls::given()?.url;
    match std::env::args().nth(4).as_deref() {
        Some("hyper") => {
            let (uri, client): (Uri, _) = (url.parse()?, bare());
            measure(move || {
                let answer = client.get(uri.clone());
                async move { length(answer.await?).await }
            })
        }
        Some("tower") => {
            let uri: Uri = url.parse()?;
            let budget = Arc::new(TpsBudget::new(Duration::from_secs(10), 3, 0.2));
            let client = ServiceBuilder::new()
                .timeout(TOTAL)
                .retry(Repeats { left: 2, budget })
                .timeout(ATTEMPT)
                .service(bare());
            measure(move || {
                let (client, uri) = (client.clone(), uri.clone());
                async move {
                    let request = Request::get(uri).body(Empty::new())?;
                    length(client.oneshot(request).await?).await
                }
            })
        }
        Some("buttress") => {
            let client = ServiceClient::new(&url)?;
            measure(move || {
                let request = client.get("/");
                async move { Ok(request.bytes().await?.len()) }
            })
        }
        _ => Err("usage: ADDRESS CALLS TASKS hyper|tower|buttress".into()),
    }
}
