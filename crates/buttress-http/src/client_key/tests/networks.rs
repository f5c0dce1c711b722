use super::*;
use crate::client_key::network::Network;

fn keys(networks: &[&str]) -> AddressKeys {
    AddressKeys::new().trust_networks(networks).unwrap()
}

#[test]
fn the_first_address_that_is_not_trusted_counts() {
    let keys = keys(&["10.0.0.0/8", "2001:db8:ffff::/48"]);
    let key_of = |peer, fields: &[&str]| keys.of(&request(peer, fields));
    assert_eq!(key_of("10.0.0.1", &["203.0.113.7"]), key("203.0.113.7"));
    assert_eq!(key_of("10.0.0.1", &["203.0.113.7, 10.3.2.1"]), key("203.0.113.7"));
    assert_eq!(
        key_of("10.0.0.1", &["203.0.113.7", "2001:db8:ffff:1::1", "10.3.2.1"]),
        key("203.0.113.7")
    );
    // A peer that is not trusted is the client.
    assert_eq!(key_of("11.0.0.1", &["203.0.113.7"]), key("11.0.0.1"));
    // The peer of a dual-stack socket.
    assert_eq!(key_of("::ffff:10.0.0.1", &["203.0.113.7"]), key("203.0.113.7"));
    assert_eq!(key_of("10.0.0.1", &["203.0.113.7, ::ffff:10.0.0.2"]), key("203.0.113.7"));
}

#[test]
fn what_the_client_wrote_changes_nothing() {
    let keys = keys(&["10.0.0.0/8"]);
    for spoofed in SPOOFED {
        let list = format!("{spoofed}, 203.0.113.7, 10.0.0.2");
        assert_eq!(keys.of(&request("10.0.0.1", &[&list])), key("203.0.113.7"), "{spoofed}");
        let fields = [spoofed, "203.0.113.7, 10.0.0.2"];
        assert_eq!(keys.of(&request("10.0.0.1", &fields)), key("203.0.113.7"), "{spoofed}");
        // A client that reaches the service without a proxy cannot choose its key either.
        assert_eq!(keys.of(&request("203.0.113.7", &fields)), key("203.0.113.7"), "{spoofed}");
    }
}

#[test]
fn garbage_gives_the_last_trusted_address_and_never_one_to_its_left() {
    let keys = keys(&["10.0.0.0/8"]);
    for garbage in ["", "unknown", "203.0.113.7:x", "[::1", "10.0.0.0/8"] {
        let list = format!("192.0.2.66, {garbage}, 10.0.0.2");
        assert_eq!(keys.of(&request("10.0.0.1", &[&list])), key("10.0.0.2"), "{garbage:?}");
    }
    let fields: [&[u8]; 2] = [b"192.0.2.66, \xff", b"10.0.0.2"];
    assert_eq!(keys.of(&raw("10.0.0.1", &fields)), key("10.0.0.2"));
}

#[test]
fn a_list_of_trusted_addresses_ends_with_the_last_that_is_reported() {
    let keys = keys(&["10.0.0.0/8"]);
    assert_eq!(keys.of(&request("10.0.0.1", &[])), key("10.0.0.1"));
    assert_eq!(keys.of(&request("10.0.0.1", &["10.0.0.9"])), key("10.0.0.9"));
    let list = "10.0.0.9, ".repeat(10_000) + "10.0.0.2";
    assert_eq!(keys.of(&request("10.0.0.1", &[&list])), key("10.0.0.9"));
}

#[test]
fn a_network_contains_what_shares_its_prefix() {
    for (network, inside, outside) in [
        ("10.0.0.0/8", "10.255.255.255", "11.0.0.0"),
        ("10.1.2.3/8", "10.255.255.255", "11.0.0.0"),
        ("192.0.2.1", "192.0.2.1", "192.0.2.0"),
        ("192.0.2.128/25", "192.0.2.255", "192.0.2.127"),
        ("0.0.0.0/0", "255.255.255.255", "::1"),
        ("::/0", "ffff::", "0.0.0.0"),
        ("2001:db8::/33", "2001:db8:7fff::", "2001:db8:8000::"),
        ("::1", "::1", "::"),
        ("::ffff:10.0.0.0/104", "10.1.1.1", "11.1.1.1"),
        ("::ffff:10.0.0.1", "10.0.0.1", "10.0.0.2"),
    ] {
        let parsed = Network::parse(network).unwrap();
        assert!(parsed.contains(inside.parse().unwrap()), "{network}");
        assert!(!parsed.contains(outside.parse().unwrap()), "{network}");
    }
}

#[test]
fn what_is_no_network_is_refused_by_name() {
    for text in [
        "",
        "10.0.0.0/33",
        "::/129",
        "10.0.0.0/",
        "10.0.0.0/+8",
        "10/8",
        "10.0.0.0/8/8",
        "a",
        " 10.0.0.1",
    ] {
        let error = AddressKeys::new().trust_networks(["10.0.0.0/8", text]).unwrap_err();
        assert_eq!(error.field(), "trust-networks");
        assert_eq!(
            error.to_string(),
            format!(
                "trust-networks: {text:?} is not an address, or a network such as 10.0.0.0/8 or \
                 2001:db8::/32"
            )
        );
    }
}

#[test]
fn the_later_word_about_trust_counts() {
    let request = request("10.0.0.1", &["192.0.2.66, 203.0.113.7"]);
    assert_eq!(keys(&["10.0.0.0/8"]).trust_hops(0).of(&request), key("10.0.0.1"));
    let networks = AddressKeys::new().trust_hops(2).trust_networks(["10.0.0.0/8"]).unwrap();
    assert_eq!(networks.of(&request), key("203.0.113.7"));
    let none = AddressKeys::new().trust_hops(2).trust_networks::<&str>([]).unwrap();
    assert_eq!(none.of(&request), key("10.0.0.1"));
}
