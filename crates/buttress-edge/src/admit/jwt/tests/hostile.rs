use super::*;

#[tokio::test(start_paused = true)]
async fn edge_2_31_hostile_headers_are_refused() {
    let jwt = of_secret();
    let valid = claims(&Clock::default()).to_string();
    let key = EncodingKey::from_secret(SECRET);
    let malformed = Seen::refused("the token is malformed");
    let deep = "[".repeat(4_000);
    let nested = format!(r#"{{"alg":"HS256","x":{deep}"#);
    for (header, expected) in [
        // The secret has no name, so it serves every `kid`, which is never a path or a query.
        (r#"{"alg":"HS256","kid":"../../../dev/null"}"#, Seen::customer()),
        (r#"{"alg":"HS256","kid":"' OR 1=1 --"}"#, Seen::customer()),
        (
            r#"{"alg":"HS256","jku":"http://evil.example/keys","jwk":{"kty":"oct"}}"#,
            Seen::customer(),
        ),
        (r#"{"alg":"HS256","alg":"none"}"#, malformed),
        (r#"{"alg":"none","alg":"HS256"}"#, Seen::refused("the token is malformed")),
        (r#"{"alg":"HS256","kid":"a","kid":"b"}"#, Seen::refused("the token is malformed")),
        (r#"{"alg":["HS256"]}"#, Seen::refused("the token is malformed")),
        (r#"{"alg":"HS256","kid":7}"#, Seen::refused("the token is malformed")),
        (r#"["HS256"]"#, Seen::refused("the token is malformed")),
        (r#"{"alg":"HS256"} {}"#, Seen::refused("the token is malformed")),
        (
            r#"{"alg":"HS256","crit":["b64"],"b64":false}"#,
            Seen::refused("the token has a critical extension"),
        ),
        (r#"{"alg":"HS256","crit":[]}"#, Seen::refused("the token has a critical extension")),
        (&nested, Seen::refused("the token is malformed")),
        ("", Seen::refused("the token is malformed")),
    ] {
        let token = signed(header, &valid, Algorithm::HS256, &key);
        assert_eq!(seen(&jwt, &token).await, expected, "{header:.60}");
    }
    let token = signed(r#"{"alg":"HS256"}"#, &valid, Algorithm::HS256, &key);
    let (message, signature) = token.rsplit_once('.').unwrap();
    for token in [
        "a",
        ".",
        "..",
        "...",
        &format!("{token}."),
        &format!(".{token}"),
        &format!("{message}.{signature}=="),
        // An encrypted token has five parts.
        &format!("{token}.a.b"),
        &format!("{message}.{}", signature.replace('-', "+").replace('_', "/") + "+"),
    ] {
        assert_eq!(seen(&jwt, token).await, Seen::refused("the token is malformed"), "{token}");
    }
    // A signature that is only a beginning of the right one.
    let begins = format!("{message}.{}", &signature[..40]);
    assert_eq!(seen(&jwt, &begins).await, Seen::refused("the signature is invalid"));
    let none = format!("{message}.");
    assert_eq!(seen(&jwt, &none).await, Seen::refused("the signature is invalid"));
}

#[tokio::test(start_paused = true)]
async fn edge_2_31_a_token_has_at_most_16_kib() {
    let jwt = of_secret();
    let key = EncodingKey::from_secret(SECRET);
    let valid = claims(&Clock::default());
    let padded = |length: usize| {
        let claims = with(valid.clone(), "x", json!("x".repeat(length))).to_string();
        signed(r#"{"alg":"HS256"}"#, &claims, Algorithm::HS256, &key)
    };
    let most = (0..16 * 1024).rev().map(|length| (length, padded(length)));
    let (length, most) = most.step_by(16).find(|(_, token)| token.len() <= 16 * 1024).unwrap();
    assert_eq!(seen(&jwt, &most).await, Seen::customer());
    let long = padded(length + 16);
    assert!(long.len() > 16 * 1024);
    assert_eq!(seen(&jwt, &long).await, Seen::refused("the token is too long"));
    let kid = json!({ "alg": "HS256", "kid": "k".repeat(1 << 20) }).to_string();
    let long = signed(&kid, &valid.to_string(), Algorithm::HS256, &key);
    assert_eq!(seen(&jwt, &long).await, Seen::refused("the token is too long"));
}

#[tokio::test(start_paused = true)]
async fn edge_2_31_hostile_claims_are_refused() {
    let jwt = of_secret();
    let key = EncodingKey::from_secret(SECRET);
    let valid = claims(&Clock::default()).to_string();
    let body = valid.strip_suffix('}').unwrap();
    let deep = |open: &str| format!(r#"{body},"x":{}"#, open.repeat(1_500));
    let closed = format!("{body},\"x\":{}1{}}}", "[".repeat(1_000), "]".repeat(1_000));
    for claims in [
        format!(r#"{body},"sub":"admin"}}"#),
        format!(r#"{body},"exp":99999999999}}"#),
        format!(r#"{body},"x":1,"x":1}}"#),
        deep("["),
        deep(r#"{"a":"#),
        closed,
        String::from("[]"),
        String::from("null"),
        String::new(),
        format!("{valid}{valid}"),
        format!(r#"{body},"x":1e999}}"#),
    ] {
        let token = signed(r#"{"alg":"HS256"}"#, &claims, Algorithm::HS256, &key);
        let expected = Seen::refused("the claims are malformed");
        assert_eq!(seen(&jwt, &token).await, expected, "{claims:.200}");
    }
    let not_utf_8 = [body.as_bytes(), b",\"x\":\"\xff\"}"].concat();
    let message = format!("{}.{}", base64(r#"{"alg":"HS256"}"#), base64(not_utf_8));
    let signer = (DEFAULT_PROVIDER.signer_factory)(&Algorithm::HS256, &key).unwrap();
    let token = format!("{message}.{}", base64(signer.sign(message.as_bytes())));
    assert_eq!(seen(&jwt, &token).await, Seen::refused("the claims are malformed"));
}

#[tokio::test(start_paused = true)]
async fn edge_2_31_dates_are_numbers_between_1970_and_9999() {
    let jwt = of_secret();
    let key = EncodingKey::from_secret(SECRET);
    let now = Clock::default().unix().as_secs();
    let bad = Seen::refused("a date of the token is malformed");
    let expired = Seen::refused("the token has expired");
    for (date, expected) in [
        (format!("{}.25", now + 100), &Seen::customer()),
        (format!("{}e0", now + 100), &Seen::customer()),
        (format!("{:?}", (now + 100).to_string()), &bad),
        (String::from("-1"), &bad),
        (String::from("-1e30"), &bad),
        (String::from("1e30"), &bad),
        (String::from("1000000000000000000000000000000"), &bad),
        (u64::MAX.to_string(), &bad),
        // Milliseconds instead of seconds.
        (format!("{}000", now + 100), &bad),
        (String::from("null"), &bad),
        (String::from("true"), &bad),
        (String::from("[]"), &bad),
        (String::from("0"), &expired),
        (String::from("-0"), &expired),
        (String::from("1e-30"), &expired),
    ] {
        for name in ["exp", "nbf"] {
            let dates = match name {
                "exp" => format!(r#""exp":{date}"#),
                _ => format!(r#""exp":{},"nbf":{date}"#, now + 200),
            };
            let claims = format!(
                r#"{{"iss":"https://id.example","aud":"shop","sub":"customer-7",{dates}}}"#
            );
            let token = signed(r#"{"alg":"HS256"}"#, &claims, Algorithm::HS256, &key);
            let seen = seen(&jwt, &token).await;
            match name {
                "exp" => assert_eq!(seen, *expected, "{date}"),
                // A token that was valid from 1970 on is valid; one from in 100 seconds is not yet.
                _ if *expected == bad => assert_eq!(seen, bad, "{date}"),
                _ if *expected == expired => assert_eq!(seen, Seen::customer(), "{date}"),
                _ => assert_eq!(seen, Seen::refused("the token is not valid yet"), "{date}"),
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn edge_2_34_a_subject_can_always_be_a_header_field() {
    let (jwt, valid) = (of_secret(), claims(&Clock::default()));
    for subject in ["a", "auth0|5f7c", "CN=Jane Doe,O=Shop", &"x".repeat(255)] {
        let token = hs256(&with(valid.clone(), "sub", json!(subject)));
        assert_eq!(seen(&jwt, &token).await, Seen::Admitted(subject.to_owned()));
        assert_eq!(http::HeaderValue::from_str(subject).unwrap(), subject);
    }
    for subject in [
        "",
        " ",
        "a ",
        "\ta",
        "a\r\nx-admin: 1",
        "a\nb",
        "a\0",
        "a\u{7f}",
        "a\u{85}",
        "jörg",
        "\u{feff}a",
        "a\u{2028}b",
        &"x".repeat(256),
    ] {
        let token = hs256(&with(valid.clone(), "sub", json!(subject)));
        assert_eq!(
            seen(&jwt, &token).await,
            Seen::refused("the subject is malformed"),
            "{subject:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn edge_2_31_neither_answers_nor_logs_have_text_of_a_token() {
    let log = crate::tests::log::begin();
    let jwt = of_secret();
    let valid = claims(&Clock::default());
    let line = "evil\nlevel=ERROR";
    let key = EncodingKey::from_secret(SECRET);
    let kid = json!({ "alg": "HS256", "kid": line, "crit": [line] }).to_string();
    let tokens = [
        hs256(&with(valid.clone(), "sub", json!(line))),
        hs256(&with(valid.clone(), "iss", json!(line))),
        hs256(&with(valid.clone(), "aud", json!(line))),
        hs256(&with(valid.clone(), "exp", json!(line))),
        signed(&kid, &valid.to_string(), Algorithm::HS256, &key),
        signed(r#"{"alg":"evil"}"#, &valid.to_string(), Algorithm::HS256, &key),
        String::from("evil.evil.evil"),
    ];
    for token in &tokens {
        let (_, response) = send(&jwt, &[&format!("Bearer {token}")]).await.unwrap_err();
        let (head, body) = response.into_parts();
        let body = http_body_util::BodyExt::collect(body).await.unwrap().to_bytes();
        let text = format!("{head:?} {}", String::from_utf8(body.to_vec()).unwrap());
        assert!(!text.contains("evil") && !text.contains(token.as_str()), "{text}");
    }
    let log = log.text();
    assert_eq!(log.matches("message=a token was refused").count(), tokens.len(), "{log}");
    assert!(!log.contains("evil"), "{log}");
    assert!(tokens.iter().all(|token| !log.contains(token.as_str())), "{log}");
    assert!(!format!("{jwt:?}").contains(std::str::from_utf8(SECRET).unwrap()));
}
