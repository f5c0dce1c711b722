//! The floor: a proxy on hyper that forwards every request unchanged.

use http::uri::PathAndQuery;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use servers::{Error, addresses, listen, run};

fn main() -> Result<(), Error> {
    let (address, backends) = addresses()?;
    let backend = backends.into_iter().next().ok_or("no backend")?;
    run(async move {
        let listener = listen(address)?;
        let client = Client::builder(TokioExecutor::new()).build_http::<Incoming>();
        loop {
            let (io, _) = listener.accept().await?;
            io.set_nodelay(true)?;
            let (client, backend) = (client.clone(), backend.clone());
            tokio::spawn(async move {
                let service = service_fn(move |mut request: Request<Incoming>| {
                    let target = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
                    if let Ok(uri) = format!("http://{backend}{target}").parse() {
                        *request.uri_mut() = uri;
                    }
                    client.request(request)
                });
                http1::Builder::new().serve_connection(TokioIo::new(io), service).await
            });
        }
    })
}
