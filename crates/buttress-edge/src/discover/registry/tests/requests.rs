use super::*;

#[tokio::test(start_paused = true)]
async fn an_instance_is_found_with_what_it_says_of_itself() {
    let registry = known().await;
    let body = r#"{"address":"10.0.0.7:8001","weight":3,"metadata":{"zone":"b"}}"#;
    let put = Ask { body: body.into(), ..ask(Method::PUT, "/services/orders/orders-1") };
    let taken = put.of(&registry).await;
    assert_eq!((taken.status(), taken.body().as_str()), (StatusCode::OK, r#"{"ttl_ms":30000}"#));
    let one = get("/services/orders/orders-1").of(&registry).await;
    let expected =
        r#"{"id":"orders-1","address":"10.0.0.7:8001","weight":3,"metadata":{"zone":"b"}}"#;
    assert_eq!(one.body(), expected);
    let all = get("/services/orders").of(&registry).await;
    assert!(all.body().ends_with(&format!(r#","instances":[{expected}]}}"#)), "{}", all.body());
    assert_eq!(all.headers()["cache-control"], "no-store");
    assert_eq!(get("/services/orders/orders-2").status(&registry).await, 404);
    assert_eq!(get("/services/prices/orders-1").status(&registry).await, 404);
    let stats = registry.stats();
    assert_eq!((stats.services, stats.instances, stats.waiting), (1, 1, 0));
    for _ in 0..2 {
        let removed = ask(Method::DELETE, "/services/orders/orders-1").of(&registry).await;
        assert_eq!((removed.status(), removed.body().as_str()), (StatusCode::NO_CONTENT, ""));
    }
    assert_eq!(set(&registry, "/services/orders").await.1, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn paths_and_methods_that_do_not_exist_are_refused() {
    let registry = known().await;
    for path in ["/", "/services", "/service/a", "/services/a/b/c"] {
        assert_eq!(get(path).status(&registry).await, 404, "{path}");
    }
    for (method, path, allowed) in [
        (Method::POST, "/services/a", "GET"),
        (Method::PUT, "/services/a", "GET"),
        (Method::POST, "/services/a/b", "GET, PUT, DELETE"),
        (Method::HEAD, "/services/a/b", "GET, PUT, DELETE"),
    ] {
        let answer = ask(method, path).of(&registry).await;
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["allow"]),
            (405, allowed.parse().as_ref().unwrap())
        );
    }
}

#[tokio::test(start_paused = true)]
async fn edge_5_15_writes_need_a_secret_and_reads_need_none() {
    let other = "another-secret-of-the-registry";
    let registry = Registry::new().admit(SECRET).admit(other).into_service().unwrap();
    sleep(30).await;
    let right = format!("Bearer {SECRET}");
    let wrong: [&[&str]; 7] = [
        &[],
        &["Bearer secret-of-the-registri"],
        &["Bearer secret-of-the-registry2"],
        &["Bearer "],
        &["Basic secret-of-the-registry"],
        &[SECRET],
        &[&right, &right],
    ];
    for given in wrong {
        for request in
            [beat("/services/orders/1", "10.0.0.7:1"), ask(Method::DELETE, "/services/orders/1")]
        {
            let authorization = given.iter().map(|value| (*value).to_owned()).collect();
            let answer = Ask { authorization, ..request }.of(&registry).await;
            assert_eq!(answer.status(), 401, "{given:?}");
            assert_eq!(answer.headers()["www-authenticate"], "Bearer");
        }
    }
    assert_eq!(registry.stats().instances, 0);
    for (id, given) in [("1", right), ("2", format!("bearer {other}"))] {
        let put = beat(&format!("/services/orders/{id}"), "10.0.0.7:1");
        let put = Ask { authorization: vec![given], ..put };
        assert_eq!(put.status(&registry).await, 200);
    }
    assert_eq!(set(&registry, "/services/orders").await.1, ["1", "2"]);
}

#[tokio::test(start_paused = true)]
async fn edge_5_15_a_registry_says_who_may_write() {
    let refused = |registry: Registry| {
        let error = registry.into_service().unwrap_err();
        (error.field().to_owned(), error.to_string())
    };
    let (field, text) = refused(Registry::new());
    assert_eq!(field, "admit");
    assert!(text.contains(".open_to_everyone()"), "{text}");
    assert_eq!(refused(Registry::new().admit(SECRET).open_to_everyone()).0, "admit");
    for secret in ["", "fifteen-letters", "with a space in the middle", &"a".repeat(1025)] {
        let (field, text) = refused(Registry::new().admit(SECRET).admit(secret));
        assert_eq!(field, "admit");
        assert!(secret.is_empty() || !text.contains(secret), "{text}");
    }
    for ttl in [Duration::ZERO, Duration::from_millis(999), Duration::from_secs(3601)] {
        assert_eq!(refused(Registry::new().admit(SECRET).ttl(ttl)).0, "ttl");
    }
    assert!(!format!("{:?}", Registry::new().admit(SECRET)).contains(SECRET));

    let open = Registry::new().open_to_everyone().into_service().unwrap();
    let put = Ask { authorization: Vec::new(), ..beat("/services/orders/1", "10.0.0.7:1") };
    assert_eq!(put.status(&open).await, 200);
}

#[tokio::test(start_paused = true)]
async fn edge_5_16_names_waits_and_bodies_are_bounded() {
    let registry = known().await;
    let long = "a".repeat(129);
    for name in ["", "a%20b", "a%2fb", ".", "..", "a:b", "a+b", long.as_str()] {
        for path in [
            format!("/services/{name}"),
            format!("/services/{name}/1"),
            format!("/services/a/{name}"),
        ] {
            // An empty name is a path with an empty segment.
            let status = beat(&path, "10.0.0.7:1").status(&registry).await;
            assert!([400, 405].contains(&status.as_u16()), "{path}: {status}");
            assert_eq!(registry.stats().instances, 0, "{path}");
        }
        assert_eq!(get(&format!("/services/{name}")).status(&registry).await, 400, "{name}");
    }
    for query in [
        "wait=31",
        "wait=-1",
        "wait=+1",
        "wait=x",
        "wait=1&wait=1",
        "version=a&version=b",
        "index=1",
    ] {
        let path = format!("/services/orders?{query}");
        assert_eq!(get(&path).status(&registry).await, 400, "{query}");
    }
    let padded = |length: usize| {
        let body = r#"{"address":"10.0.0.7:1"}"#;
        let body = format!("{body}{}", " ".repeat(length - body.len()));
        Ask { body: body.into(), ..ask(Method::PUT, "/services/orders/1") }
    };
    assert_eq!(padded(4096).status(&registry).await, 200);
    assert_eq!(padded(4097).status(&registry).await, 413);
    for body in [
        "",
        "{}",
        "[]",
        r#"{"address":1}"#,
        r#"{"address":"10.0.0.7:1","port":1}"#,
        r#"{"address":"10.0.0.7:1","weight":0}"#,
        r#"{"address":"10.0.0.7:1","weight":1000001}"#,
    ] {
        let put = Ask { body: body.into(), ..ask(Method::PUT, "/services/orders/2") };
        assert_eq!(put.status(&registry).await, 400, "{body}");
    }
}

#[tokio::test(start_paused = true)]
async fn edge_5_16_a_body_that_does_not_arrive_is_given_up_after_10_seconds() {
    struct Never;
    impl http_body::Body for Never {
        type Data = bytes::Bytes;
        type Error = std::convert::Infallible;
        fn poll_frame(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<http_body::Frame<bytes::Bytes>, Self::Error>>> {
            std::task::Poll::Pending
        }
    }
    let registry = known().await;
    let start = Clock::default().now();
    let put = Ask { body: Body::new(Never), ..ask(Method::PUT, "/services/orders/1") };
    assert_eq!(put.status(&registry).await, 408);
    assert_eq!(Clock::default().now() - start, Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn edge_5_16_at_most_1000_services_instances_and_waits() {
    let registry = known().await;
    for id in 0..1000 {
        for path in [format!("/services/orders/{id}"), format!("/services/s{id}/1")] {
            let expected = if path == "/services/s999/1" { 429 } else { 200 };
            assert_eq!(beat(&path, "10.0.0.7:1").status(&registry).await, expected, "{path}");
        }
    }
    let full = beat("/services/orders/more", "10.0.0.7:1").of(&registry).await;
    assert_eq!(
        (full.status().as_u16(), &full.headers()["retry-after"]),
        (429, &"1".parse().unwrap())
    );
    assert_eq!(
        beat("/services/orders/7", "10.0.0.7:1").status(&registry).await,
        200,
        "a heartbeat"
    );

    let (version, _) = set(&registry, "/services/s1").await;
    let path = format!("/services/s1?version={version}&wait=30");
    let from = |last: u8| Ask { peer: Some([10, 0, 1, last].into()), ..get(&path) };
    let mut waiting = tokio::task::JoinSet::new();
    for caller in 0..1000 {
        let (registry, wait) = (registry.clone(), from((caller % 250) as u8));
        waiting.spawn(async move { wait.status(&registry).await });
    }
    while registry.stats().waiting < 1000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(from(250).status(&registry).await, 429);
    assert_eq!(get("/services/s1").status(&registry).await, 200, "this one does not wait");
    waiting.abort_all();
    while waiting.join_next().await.is_some() {}
    assert_eq!(registry.stats().waiting, 0);
    assert_eq!(get(&path).status(&registry).await, 200, "after its wait");
}

/// Regression: one client could take all places, and each caller had the set as a separate text.
#[tokio::test(start_paused = true)]
async fn edge_5_16_one_address_takes_a_part_of_the_waits_and_all_callers_share_the_text() {
    let error = registry_of(0).into_service().unwrap_err();
    assert_eq!(error.field(), "waits-per-address");
    let registry = registry_of(2).into_service().unwrap();
    sleep(30).await;
    let (version, _) = set(&registry, "/services/orders").await;
    let path = format!("/services/orders?version={version}&wait=30");
    let from =
        |peer: Option<&str>| Ask { peer: peer.map(|peer| peer.parse().unwrap()), ..get(&path) };
    // One /64 is one address, and all without an address are one.
    let one = ["2001:db8::1", "2001:db8::2", "2001:db8::3"].map(Some);
    let mut waiting = tokio::task::JoinSet::new();
    for (place, group) in [one, [None; 3], [Some("10.0.0.7"); 3]].iter().enumerate() {
        for peer in &group[..2] {
            let (registry, wait) = (registry.clone(), from(*peer));
            waiting.spawn(async move { wait.bytes(&registry).await });
        }
        while registry.stats().waiting < 2 * (place + 1) {
            tokio::task::yield_now().await;
        }
        assert_eq!(from(group[2]).status(&registry).await, 429, "{group:?}");
    }
    beat("/services/orders/1", "10.0.0.7:1").of(&registry).await;
    let mut texts = Vec::new();
    while let Some(text) = waiting.join_next().await {
        texts.push(text.unwrap());
    }
    texts.push(get("/services/orders").bytes(&registry).await);
    assert!(texts.iter().all(|text| text.as_ptr() == texts[0].as_ptr()), "{texts:?}");
    assert_eq!((texts.len(), registry.stats().waiting), (7, 0));
}

fn registry_of(waits_per_address: usize) -> Registry {
    Registry::new().admit(SECRET).waits_per_address(waits_per_address)
}

/// A change of another service ends no wait, and a change of this one ends it at the same instant.
#[tokio::test(start_paused = true)]
async fn a_caller_sleeps_through_the_changes_of_other_services() {
    let registry = known().await;
    let writer = registry.clone();
    let writes = tokio::spawn(async move {
        for second in 0..20 {
            sleep(1).await;
            let service = if second == 11 { "orders" } else { "prices" };
            beat(&format!("/services/{service}/{second}"), "10.0.0.7:1").of(&writer).await;
        }
    });
    assert_eq!(change(&registry).await, (vec!["11".to_owned()], 12));
    writes.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn edge_5_17_an_instance_announces_the_address_that_it_comes_from() {
    let registry = known().await;
    let put =
        |address: &str, peer: Option<IpAddr>| Ask { peer, ..beat("/services/orders/1", address) };
    let peer = Some(IpAddr::from(PEER));
    for (address, peer, expected) in [
        ("10.0.0.7:8001", peer, 200),
        ("http://10.0.0.7:8001/v1", peer, 200),
        ("[::ffff:10.0.0.7]:8001", peer, 200),
        ("10.0.0.7:8001", Some("::ffff:10.0.0.7".parse().unwrap()), 200),
        ("[2001:db8::7]:8001", Some("2001:db8::7".parse().unwrap()), 200),
        ("10.0.0.8:8001", peer, 403),
        ("127.0.0.1:8001", peer, 403),
        ("169.254.169.254:80", peer, 403),
        ("10.0.0.7:8001", None, 403),
        // A name can become any address later.
        ("orders:8001", peer, 400),
        ("10.0.0.7:8001@evil", peer, 400),
        ("ftp://10.0.0.7:8001", peer, 400),
        ("", peer, 400),
    ] {
        assert_eq!(put(address, peer).status(&registry).await, expected, "{address}");
    }
}

#[tokio::test(start_paused = true)]
async fn edge_5_17_addresses_are_in_the_allowed_networks() {
    let registry = Registry::new().admit(SECRET).networks(["10.1.0.0/16", "2001:db8::/32"]);
    let registry = registry.unwrap().into_service().unwrap();
    for (address, expected) in [
        ("10.1.2.3:8001", 200),
        ("[2001:db8:1::2]:8001", 200),
        ("http://10.1.255.255", 200),
        // The sender's own address is not in the list.
        ("10.0.0.7:8001", 403),
        ("10.2.0.1:8001", 403),
        ("[2001:db9::1]:8001", 403),
    ] {
        let put = beat("/services/orders/1", address);
        assert_eq!(put.status(&registry).await, expected, "{address}");
    }
    let error = Registry::new().networks(["10.0.0.0/33"]).unwrap_err();
    assert_eq!(error.field(), "networks");
}

#[tokio::test(start_paused = true)]
async fn edge_5_18_until_one_expiry_after_its_start_the_set_is_not_yet_known() {
    let registry = registry();
    assert_eq!(beat("/services/orders/1", "10.0.0.7:1").status(&registry).await, 200);
    sleep(12).await;
    for path in ["/services/orders", "/services/prices", "/services/orders?version=a-1&wait=30"] {
        let answer = get(path).of(&registry).await;
        assert_eq!(answer.status(), 503, "{path}");
        assert_eq!(answer.headers()["retry-after"], "18", "{path}");
        assert!(answer.body().contains(r#""kind":"not-yet-known""#), "{}", answer.body());
    }
    sleep(17).await;
    assert_eq!(get("/services/prices").status(&registry).await, 503);
    assert_eq!(beat("/services/orders/1", "10.0.0.7:1").status(&registry).await, 200);
    sleep(1).await;
    assert_eq!(set(&registry, "/services/orders").await.1, ["1"]);
    assert_eq!(set(&registry, "/services/prices").await.1, [""; 0]);
}

/// Waits for a change of a set, and returns its ids and the seconds of the wait.
async fn change(registry: &RegistryService) -> (Vec<String>, u64) {
    let (version, _) = set(registry, "/services/orders").await;
    let start = Clock::default().now();
    let (_, ids) = set(registry, &format!("/services/orders?version={version}&wait=30")).await;
    (ids, Clock::default().now().duration_since(start).as_secs())
}

#[tokio::test(start_paused = true)]
async fn a_caller_waits_until_the_set_changes_or_for_30_seconds() {
    let registry = known().await;
    assert_eq!(change(&registry).await, (vec![], 30));
    for (beaten, expected, after) in [("1", vec!["1"], 7), ("2", vec!["1", "2"], 7)] {
        let writer = registry.clone();
        let write = tokio::spawn(async move {
            sleep(7).await;
            beat(&format!("/services/orders/{beaten}"), "10.0.0.7:1").status(&writer).await
        });
        let (ids, waited) = change(&registry).await;
        assert_eq!((ids, waited), (expected.into_iter().map(String::from).collect(), after));
        assert_eq!(write.await.unwrap(), 200);
    }
    // The first one was 7 seconds earlier than the second one, and expires 30 seconds after its heartbeat.
    assert_eq!(change(&registry).await, (vec!["2".to_owned()], 23));
    assert_eq!(change(&registry).await, (vec![], 7));
    let (version, _) = set(&registry, "/services/orders").await;
    let start = Clock::default().now();
    set(&registry, &format!("/services/orders?version={version}&wait=0")).await;
    set(&registry, "/services/orders?version=of-another-registry-7").await;
    assert_eq!(Clock::default().now(), start);
}

#[tokio::test(start_paused = true)]
async fn edge_5_14_callers_see_instances_that_stopped_together_until_90_seconds() {
    let registry = known().await;
    for id in 0..6 {
        beat(&format!("/services/orders/{id}"), "10.0.0.7:1").of(&registry).await;
    }
    let start = Clock::default().now();
    let beating = registry.clone();
    let beats = tokio::spawn(async move {
        loop {
            sleep(10).await;
            for id in 0..3 {
                beat(&format!("/services/orders/{id}"), "10.0.0.7:1").of(&beating).await;
            }
        }
    });
    loop {
        let (ids, _) = change(&registry).await;
        let age = Clock::default().now().duration_since(start).as_secs();
        if ids.len() < 6 {
            assert_eq!((ids, age), (vec!["0".into(), "1".into(), "2".into()], 90));
            break;
        }
        assert!(age < 90, "expired at {age}");
    }
    beats.abort();
}
