use std::net::{Ipv4Addr, SocketAddr};

use super::*;

#[test]
fn an_ipv6_client_has_the_key_of_its_64_bits() {
    assert_eq!(key("2001:db8:1:2::"), key("2001:db8:1:2:ffff:ffff:ffff:ffff"));
    assert_ne!(key("2001:db8:1:2::"), key("2001:db8:1:3::"));
    assert_ne!(key("2001:db8:1:2::"), key("2001:db9:1:2::"));
    assert_eq!(key("2001:db8:1:2:3:4:5:6").to_string(), "2001:db8:1:2::/64");
}

#[test]
fn an_ipv4_client_has_its_own_key_also_when_it_is_mapped() {
    assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
    assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
    assert_ne!(key("::ffff:192.0.2.1"), key("::ffff:192.0.2.2"));
    // This address is not mapped: it is an IPv6 address.
    assert_eq!(key("::1").to_string(), "::/64");
    assert_eq!(key("::ffff:192.0.2.1").to_string(), "192.0.2.1");
}

#[test]
fn without_trust_the_peer_is_the_client_whatever_the_header_says() {
    let keys = AddressKeys::new();
    for spoofed in SPOOFED {
        assert_eq!(keys.of(&request("203.0.113.7", &[spoofed])), key("203.0.113.7"), "{spoofed}");
    }
    assert_eq!(keys.of(&request("::ffff:203.0.113.7", &[])), key("203.0.113.7"));
}

#[test]
fn requests_without_a_peer_share_a_key_whatever_the_header_says() {
    let trusting = AddressKeys::new().trust_networks(["0.0.0.0/0", "::/0"]).unwrap();
    for keys in [AddressKeys::new(), AddressKeys::new().trust_hops(1), trusting] {
        for spoofed in SPOOFED {
            let mut request = request("203.0.113.7", &[spoofed]);
            request.extensions_mut().remove::<PeerAddr>();
            assert_eq!(keys.of(&request), AddressKey::Unknown, "{spoofed}");
        }
    }
    assert_eq!(AddressKey::Unknown.to_string(), "unknown");
}

#[test]
fn the_peer_is_found_in_a_frameworks_own_extension() {
    #[derive(Clone)]
    struct ConnectInfo<T>(T);
    let keys = AddressKeys::new().peer_from(|ConnectInfo(peer): &ConnectInfo<SocketAddr>| *peer);
    let mut request = request("192.0.2.1", &[]);
    assert_eq!(keys.of(&request), AddressKey::Unknown);
    let peer = SocketAddr::from((Ipv4Addr::new(203, 0, 113, 7), 4711));
    request.extensions_mut().insert(ConnectInfo(peer));
    assert_eq!(keys.of(&request), key("203.0.113.7"));
    // Another type of the same framework is another extension.
    let others = AddressKeys::new().peer_from(|peer: &ConnectInfo<IpAddr>| peer.0);
    assert_eq!(others.of(&request), AddressKey::Unknown);
}
