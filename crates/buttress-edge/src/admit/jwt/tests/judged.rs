use super::*;

#[tokio::test(start_paused = true)]
async fn edge_2_31_a_refused_token_is_401_and_says_why() {
    let (jwt, valid) = (of_secret(), claims(&Clock::default()));
    let now = Clock::default().unix().as_secs();
    assert_eq!(seen(&jwt, &hs256(&valid)).await, Seen::customer());
    let listed = with(valid.clone(), "aud", json!(["other", "shop"]));
    assert_eq!(seen(&jwt, &hs256(&listed)).await, Seen::customer());
    for (name, value, why) in [
        ("exp", json!(null), "the token has no expiry"),
        ("exp", json!(now - 61), "the token has expired"),
        ("nbf", json!(now + 61), "the token is not valid yet"),
        ("iss", json!("https://evil.example"), "the issuer is not accepted"),
        ("iss", json!(["https://id.example"]), "the issuer is not accepted"),
        ("iss", json!(null), "the issuer is not accepted"),
        ("aud", json!("other"), "the token is for another audience"),
        ("aud", json!(["other", 1, "SHOP"]), "the token is for another audience"),
        ("aud", json!(null), "the token is for another audience"),
        ("sub", json!(null), "the token has no subject"),
        ("sub", json!(7), "the subject is malformed"),
    ] {
        let token = hs256(&with(valid.clone(), name, value.clone()));
        assert_eq!(seen(&jwt, &token).await, Seen::refused(why), "{name}: {value}");
    }
    // RFC 6750, 3.1: no error code without credentials.
    let missing = Seen::Refused(401, String::from("Bearer"));
    assert_eq!(seen_of(&jwt, &[]).await, missing);
    assert_eq!(seen_of(&jwt, &["Basic YTpi"]).await, missing);
    let token = format!("Bearer {}", hs256(&valid));
    let twice = Seen::refused("the request does not have exactly one bearer token");
    assert_eq!(seen_of(&jwt, &[&token, &token]).await, twice);
}

#[tokio::test(start_paused = true)]
async fn edge_2_31_the_algorithm_is_the_key_s() {
    let valid = claims(&Clock::default());
    let jwt = ours(Jwt::rs256_pem(RSA_A_PUBLIC).unwrap());
    assert_eq!(seen(&jwt, &rs256("any", RSA_A, &valid)).await, Seen::customer());
    let wrong = Seen::refused("the algorithm of the token is not the algorithm of the key");
    // The public key as the secret of HS256, in every form that it has.
    let forms = [RSA_A_PUBLIC.as_bytes().to_vec(), RSA_A_PUBLIC.trim().into(), der(RSA_A_PUBLIC)];
    for form in forms {
        let key = EncodingKey::from_secret(&form);
        let token = signed(r#"{"alg":"HS256"}"#, &valid.to_string(), Algorithm::HS256, &key);
        assert_eq!(seen(&jwt, &token).await, wrong);
        // The header lies about the algorithm.
        let token = signed(r#"{"alg":"RS256"}"#, &valid.to_string(), Algorithm::HS256, &key);
        assert_eq!(seen(&jwt, &token).await, Seen::refused("the signature is invalid"));
    }
    for algorithm in ["none", "None", "NONE", "", "HS256", "RS512", "ES256", "XX"] {
        let header = base64(json!({ "alg": algorithm }).to_string());
        let message = format!("{header}.{}", base64(valid.to_string()));
        let signature = rs256("any", RSA_A, &valid);
        let signature = signature.rsplit('.').next().unwrap();
        for token in [format!("{message}."), format!("{message}.{signature}")] {
            assert_eq!(seen(&jwt, &token).await, wrong, "{algorithm}");
            assert_eq!(seen(&of_secret(), &token).await == wrong, algorithm != "HS256");
        }
    }
    // Without a header's algorithm, and with another key.
    let message = format!("{}.{}", base64("{}"), base64(valid.to_string()));
    assert_eq!(seen(&jwt, &format!("{message}.")).await, Seen::refused("the token is malformed"));
    let other = seen(&jwt, &rs256("any", RSA_B, &valid)).await;
    assert_eq!(other, Seen::refused("the signature is invalid"));
}

#[tokio::test(start_paused = true)]
async fn edge_2_31_every_bit_of_a_token_is_signed() {
    let (jwt, token) = (of_secret(), hs256(&claims(&Clock::default())));
    let mut refused = 0;
    for at in 0..token.len() {
        let mut changed = token.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        assert!(matches!(seen(&jwt, &changed).await, Seen::Refused(401, _)), "{at}");
        refused += 1;
    }
    assert_eq!(refused, token.len());
    for end in 1..token.len() {
        let cut = seen(&jwt, &token[..end]).await;
        assert!(matches!(cut, Seen::Refused(401, _)), "{end}");
    }
    assert_eq!(seen(&jwt, &token).await, Seen::customer());
}

#[tokio::test]
async fn edge_2_32_the_clocks_may_differ_by_60_seconds() {
    let virtual_clock = buttress::VirtualClock::starting_at(Duration::from_secs(1_000_000));
    let jwt = of_secret().clock(virtual_clock.clock());
    let valid = claims(&virtual_clock.clock());
    let not_yet = Seen::refused("the token is not valid yet");
    let expired = Seen::refused("the token has expired");
    let token = hs256(&with(with(valid, "exp", json!(1_000_200)), "nbf", json!(1_000_100)));
    virtual_clock.advance(Duration::from_millis(39_999));
    assert_eq!(seen(&jwt, &token).await, not_yet);
    virtual_clock.advance(Duration::from_millis(1));
    assert_eq!(seen(&jwt, &token).await, Seen::customer());
    // Edge 2.35: the token is in the cache from here on, and its dates are checked again.
    virtual_clock.advance(Duration::from_millis(219_999));
    assert_eq!(seen(&jwt, &token).await, Seen::customer());
    virtual_clock.advance(Duration::from_millis(1));
    assert_eq!(seen(&jwt, &token).await, expired);
    // A fraction of a second counts.
    let fraction = with(claims(&virtual_clock.clock()), "exp", json!(1_000_200.5));
    assert_eq!(seen(&jwt, &hs256(&fraction)).await, Seen::customer());
    virtual_clock.advance(Duration::from_millis(500));
    assert_eq!(seen(&jwt, &hs256(&fraction)).await, expired);
}

#[tokio::test(start_paused = true)]
async fn edge_2_31_a_valid_token_without_what_the_route_requires_is_403() {
    let valid = claims(&Clock::default());
    let lacks = |what: &str| {
        let text = format!("the token lacks a required {what}");
        let challenge = format!(r#"Bearer error="insufficient_scope", error_description="{text}""#);
        Seen::Refused(403, challenge)
    };
    let jwt = of_secret().require("roles", "admin").require("tenant", "7");
    for (roles, expected) in [
        (json!("admin"), Seen::customer()),
        (json!(["user", "admin"]), Seen::customer()),
        (json!("administrator"), lacks("claim")),
        (json!("user admin"), lacks("claim")),
        (json!({ "admin": true }), lacks("claim")),
        (json!(null), lacks("claim")),
    ] {
        let token = with(with(valid.clone(), "tenant", json!("7")), "roles", roles.clone());
        assert_eq!(seen(&jwt, &hs256(&token)).await, expected, "{roles}");
    }
    // All of them, and a number is not a text.
    let token = with(with(valid.clone(), "roles", json!("admin")), "tenant", json!(7));
    assert_eq!(seen(&jwt, &hs256(&token)).await, lacks("claim"));

    let jwt = of_secret().require_scope("orders:write");
    for (name, scope, expected) in [
        ("scope", json!("orders:read orders:write"), Seen::customer()),
        ("scp", json!(["orders:write"]), Seen::customer()),
        ("scp", json!("orders:write"), Seen::customer()),
        ("scope", json!("orders:writer"), lacks("scope")),
        ("scope", json!("orders:read"), lacks("scope")),
        ("scopes", json!("orders:write"), lacks("scope")),
    ] {
        let token = hs256(&with(valid.clone(), name, scope.clone()));
        assert_eq!(seen(&jwt, &token).await, expected, "{name}: {scope}");
    }
    // A token that is not valid is 401, whatever it lacks.
    let expired = hs256(&with(valid, "exp", json!(1)));
    assert_eq!(seen(&jwt, &expired).await, Seen::refused("the token has expired"));
}

#[test]
fn edge_2_36_weak_keys_and_missing_rules_are_refused() {
    let error = |jwt: Result<Jwt, buttress::InvalidConfig>| jwt.unwrap_err().to_string();
    let bound = "a random secret of at least 32 bytes";
    let short = error(Jwt::hs256(&SECRET[..31]));
    assert_eq!(short, format!("hs256: a secret of 31 bytes is not {bound}"));
    let bound = "a public RSA key of 2048 to 4096 bits, in PEM";
    let weak = error(Jwt::rs256_pem(RSA_1024_PUBLIC));
    assert_eq!(weak, format!("rs256-pem: a key of 1024 bits is not {bound}"));
    assert_eq!(error(Jwt::rs256_pem(RSA_A)), format!("rs256-pem: a private key is not {bound}"));
    for pem in ["", "-----BEGIN PUBLIC KEY-----", include_str!("keys/p256.pub.pem")] {
        let value = format!("a text of {} bytes", pem.len());
        assert_eq!(error(Jwt::rs256_pem(pem)), format!("rs256-pem: {value} is not {bound}"));
    }

    let jwt = Jwt::hs256(SECRET).unwrap();
    let missing = |jwt: Jwt| jwt.check().unwrap_err().field().to_owned();
    assert_eq!(missing(jwt.clone()), "issuer");
    assert_eq!(missing(jwt.clone().issuer("a")), "audience");
    assert_eq!(missing(jwt.clone().audience("a")), "issuer");
    assert_eq!(missing(jwt.clone().any_audience()), "issuer");
    assert_eq!(missing(jwt.clone().issuer("").audience("a")), "issuer");
    assert_eq!(missing(jwt.clone().issuer("a").audience("")), "audience");
    assert_eq!(missing(jwt.clone().issuer("a").audience("a").require("", "a")), "require");
    assert_eq!(missing(jwt.clone().issuer("a").audience("a").require_scope("")), "require-scope");
    assert_eq!(jwt.clone().issuer("a").any_audience().check(), Ok(()));
    assert_eq!(jwt.any_issuer().any_audience().check(), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn edge_2_36_any_audience_and_any_issuer_accept_tokens_without_them() {
    let jwt = Jwt::hs256(SECRET).unwrap().any_audience().any_issuer();
    let bare = with(with(claims(&Clock::default()), "aud", json!(null)), "iss", json!(null));
    assert_eq!(seen(&jwt, &hs256(&bare)).await, Seen::customer());
}
