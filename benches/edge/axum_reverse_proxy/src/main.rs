//! A proxy on axum-reverse-proxy that forwards every request.

use axum::Router;
use axum::serve::ListenerExt;
use axum_reverse_proxy::ReverseProxy;
use servers::{Error, addresses, listen, run};

fn main() -> Result<(), Error> {
    let (address, backends) = addresses()?;
    let backend = backends.into_iter().next().ok_or("no backend")?;
    run(async move {
        let proxy: Router = ReverseProxy::new("/", &format!("http://{backend}")).into();
        let listener = listen(address)?.tap_io(|io| drop(io.set_nodelay(true)));
        Ok(axum::serve(listener, proxy).await?)
    })
}
