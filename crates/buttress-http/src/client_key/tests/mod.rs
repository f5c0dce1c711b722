mod addresses;
mod headers;
mod hops;
mod layers;
mod networks;

use std::net::IpAddr;

use http::{HeaderValue, Request};

use super::*;

fn key(address: &str) -> AddressKey {
    address.parse::<IpAddr>().unwrap().into()
}

/// A request from `peer` with these fields of `X-Forwarded-For`.
fn request(peer: &str, fields: &[&str]) -> Request<()> {
    raw(peer, &fields.iter().map(|field| field.as_bytes()).collect::<Vec<_>>())
}

fn raw(peer: &str, fields: &[&[u8]]) -> Request<()> {
    let mut request = Request::new(());
    request.extensions_mut().insert(PeerAddr(peer.parse().unwrap()));
    for field in fields {
        let field = HeaderValue::from_bytes(field).unwrap();
        request.headers_mut().append("x-forwarded-for", field);
    }
    request
}

/// Entries with which a client could claim the address 192.0.2.66, or no address.
const SPOOFED: [&str; 8] = [
    "192.0.2.66",
    "192.0.2.66, 192.0.2.66",
    "10.0.0.1, 192.0.2.66, 10.0.0.2",
    "garbage",
    "",
    ",",
    "unknown, _hidden",
    "\t, 127.0.0.1",
];
