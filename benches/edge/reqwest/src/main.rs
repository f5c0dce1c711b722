//! Calls a backend with reqwest.

use std::time::Duration;

use servers::Error;
use servers::calls::{Calls, measure};

fn main() -> Result<(), Error> {
    let Calls { url, .. } = Calls::given()?;
    // The limits and the pool of `ServiceClient`.
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(Duration::from_secs(12))
        .connect_timeout(Duration::from_secs(2))
        .pool_max_idle_per_host(32)
        .pool_idle_timeout(Duration::from_secs(15))
        .build()?;
    measure(move || {
        let request = client.get(&url);
        async move { Ok(request.send().await?.error_for_status()?.bytes().await?.len()) }
    })
}
