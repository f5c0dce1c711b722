//! The floor of a tunnel: copies the bytes of each connection to the backend and back.

use servers::{Error, addresses, listen, run};
use tokio::net::TcpStream;

fn main() -> Result<(), Error> {
    let (address, backends) = addresses()?;
    let backend = backends.into_iter().next().ok_or("no backend")?;
    run(async move {
        let listener = listen(address)?;
        loop {
            let (mut io, _) = listener.accept().await?;
            io.set_nodelay(true)?;
            let backend = backend.clone();
            tokio::spawn(async move {
                let mut other = TcpStream::connect(backend).await?;
                other.set_nodelay(true)?;
                tokio::io::copy_bidirectional(&mut io, &mut other).await
            });
        }
    })
}
