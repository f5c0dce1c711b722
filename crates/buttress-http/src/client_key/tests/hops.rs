use super::*;

fn behind(hops: usize, fields: &[&str]) -> AddressKey {
    AddressKeys::new().trust_hops(hops).of(&request("10.0.0.1", fields))
}

#[test]
fn the_entry_of_the_outermost_trusted_proxy_counts() {
    let list = ["192.0.2.66, 203.0.113.7, 10.0.0.3, 10.0.0.2"];
    assert_eq!(behind(0, &list), key("10.0.0.1"));
    assert_eq!(behind(1, &list), key("10.0.0.2"));
    assert_eq!(behind(2, &list), key("10.0.0.3"));
    assert_eq!(behind(3, &list), key("203.0.113.7"));
}

#[test]
fn what_the_client_wrote_changes_nothing() {
    for spoofed in SPOOFED {
        let one_field = format!("{spoofed}, 203.0.113.7, 10.0.0.2");
        assert_eq!(behind(2, &[&one_field]), key("203.0.113.7"), "{spoofed}");
        assert_eq!(behind(2, &[spoofed, "203.0.113.7, 10.0.0.2"]), key("203.0.113.7"));
        assert_eq!(behind(2, &[spoofed, "203.0.113.7", "10.0.0.2"]), key("203.0.113.7"));
    }
}

#[test]
fn the_leftmost_entry_is_not_taken_for_want_of_others() {
    assert_eq!(behind(2, &["192.0.2.66"]), key("10.0.0.1"));
    assert_eq!(behind(3, &["192.0.2.66", "10.0.0.2"]), key("10.0.0.1"));
    assert_eq!(behind(1, &[]), key("10.0.0.1"));
    assert_eq!(behind(usize::MAX, &["192.0.2.66, 10.0.0.2"]), key("10.0.0.1"));
}

#[test]
fn an_entry_that_is_no_address_stops_the_reading() {
    for garbage in [
        "",
        " ",
        "unknown",
        "_hidden",
        "example.com",
        "203.0.113",
        "203.0.113.256",
        "0313.0.0.1",
        "203.0.113.7:",
        "203.0.113.7:x",
        "203.0.113.7:65536",
        "203.0.113.7 192.0.2.66",
        "[::1",
        "::1]",
        "[203.0.113.7]",
        "[[::1]]",
        "::1%eth0",
        "\"[::1]\"",
        "for=203.0.113.7",
        "203.0.113.7;",
        "+1.2.3.4",
        "[::1]:",
        "[::1]:-1",
        "http://203.0.113.7",
        "203.0.113.7/32",
        "\u{a0}203.0.113.7",
    ] {
        assert_eq!(behind(1, &[garbage]), key("10.0.0.1"), "{garbage:?}");
        // The entry to its left does not replace it.
        let behind_garbage = format!("192.0.2.66, {garbage}, 10.0.0.2");
        assert_eq!(behind(2, &[&behind_garbage]), key("10.0.0.1"), "{garbage:?}");
        assert_eq!(behind(3, &[&behind_garbage]), key("10.0.0.1"), "{garbage:?}");
    }
}

#[test]
fn an_entry_may_have_a_port_brackets_and_blanks() {
    for (entry, address) in [
        ("203.0.113.7:443", "203.0.113.7"),
        (" \t203.0.113.7\t ", "203.0.113.7"),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("[::ffff:cb00:7107]:1", "203.0.113.7"),
    ] {
        assert_eq!(behind(1, &[entry]), key(address), "{entry}");
        let list = format!("192.0.2.66 ,{entry},10.0.0.2");
        assert_eq!(behind(2, &[&list]), key(address), "{entry}");
    }
}

#[test]
fn bytes_that_are_no_text_stop_the_reading_where_they_stand() {
    let keys = AddressKeys::new().trust_hops(1);
    let left: [&[u8]; 2] = [b"\xff\xfe\x80", b"203.0.113.7"];
    assert_eq!(keys.of(&raw("10.0.0.1", &left)), key("203.0.113.7"));
    assert_eq!(keys.of(&raw("10.0.0.1", &[b"\xff, 203.0.113.7"])), key("203.0.113.7"));
    for garbage in [&b"203.0.113.7\xff"[..], b"\x80", b"192.0.2.66, \xc3\x28"] {
        assert_eq!(keys.of(&raw("10.0.0.1", &[garbage])), key("10.0.0.1"));
    }
}

#[test]
fn ten_thousand_entries_are_one_list() {
    let mut list = "192.0.2.66, ".repeat(10_000);
    list.push_str("203.0.113.7");
    assert_eq!(behind(1, &[&list]), key("203.0.113.7"));
    let fields = vec!["192.0.2.66"; 10_000];
    assert_eq!(behind(10_001, &fields), key("10.0.0.1"));
    assert_eq!(behind(10_000, &fields), key("192.0.2.66"));
    assert_eq!(behind(1, &[&",".repeat(10_000)]), key("10.0.0.1"));
}
