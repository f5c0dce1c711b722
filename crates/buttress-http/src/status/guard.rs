//! Which requests may change anything: decisions on the head of a request.

use http::header::{CONTENT_TYPE, HOST, HeaderName, ORIGIN};
use http::request::Parts;
use http::{HeaderMap, StatusCode};

use super::act::NotDone;

/// A header that a form or an image of another site cannot send.
pub(super) const ACTION: HeaderName = HeaderName::from_static("x-buttress-action");
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Checks that a change does not come from a page of another site.
///
/// # Errors
/// Returns the reason of the refusal, with status 403.
pub(super) fn check_origin(head: &Parts, allowed: &[String]) -> Result<(), NotDone> {
    let refuse = |why: &str| Err(NotDone::new(StatusCode::FORBIDDEN, why));
    match only(&head.headers, &FETCH_SITE) {
        // A person who types the address, and clients that are not browsers.
        Only::None | Only::One("same-origin" | "none") => {}
        Only::One(_) | Only::Other => return refuse("the request comes from another site"),
    }
    match only(&head.headers, &ORIGIN) {
        Only::None => {}
        Only::One(origin) if is_own(head, origin) => {}
        Only::One(origin) if allowed.iter().any(|own| own == origin) => {}
        Only::One(_) | Only::Other => return refuse("the origin is another site"),
    }
    match only(&head.headers, &ACTION) {
        Only::One(value) if !value.is_empty() => Ok(()),
        _ => refuse("a change needs the header x-buttress-action"),
    }
}

/// Checks that the body is JSON.
///
/// # Errors
/// Status 415.
pub(super) fn check_content_type(head: &Parts) -> Result<(), NotDone> {
    let is_json = match only(&head.headers, &CONTENT_TYPE) {
        Only::One(text) => {
            let essence = text.split(';').next().unwrap_or_default().trim();
            essence.eq_ignore_ascii_case("application/json")
        }
        _ => false,
    };
    if is_json {
        return Ok(());
    }
    let why = "the body of a change must be application/json";
    Err(NotDone::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, why))
}

/// Whether `origin` is the address that the client asked.
fn is_own(head: &Parts, origin: &str) -> bool {
    let Some((_, own)) = origin.split_once("://") else { return false };
    let host = match (only(&head.headers, &HOST), head.uri.authority()) {
        (Only::One(host), _) => host,
        // HTTP/2 has the address in the URI.
        (Only::None, Some(authority)) => authority.as_str(),
        _ => return false,
    };
    own.eq_ignore_ascii_case(host)
}

/// The values of a header that must not come twice.
enum Only<'a> {
    None,
    One(&'a str),
    /// More than one, or a value that is not text.
    Other,
}

fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Only<'a> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Only::None,
        (Some(value), None) => value.to_str().map_or(Only::Other, Only::One),
        (Some(_), Some(_)) => Only::Other,
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn head(headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::post("/status");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn passes(headers: &[(&str, &str)]) -> bool {
        check_origin(&head(headers), &[String::from("https://ops.example")]).is_ok()
    }

    const ASKED: (&str, &str) = ("x-buttress-action", "1");
    const HOST: (&str, &str) = ("host", "shop.example:8080");

    #[test]
    fn a_change_needs_the_header_and_an_origin_of_its_own() {
        let own = ("origin", "http://shop.example:8080");
        assert!(passes(&[HOST, ASKED]));
        assert!(passes(&[HOST, ASKED, own]));
        assert!(passes(&[HOST, ASKED, ("origin", "HTTP://SHOP.example:8080")]));
        assert!(passes(&[HOST, ASKED, own, ("sec-fetch-site", "same-origin")]));
        assert!(passes(&[HOST, ASKED, ("sec-fetch-site", "none")]));
        assert!(passes(&[HOST, ASKED, ("origin", "https://ops.example")]), "a named origin");
        assert!(!passes(&[HOST, own]), "no header");
        assert!(!passes(&[HOST, own, ("x-buttress-action", "")]), "an empty header");
        assert!(!passes(&[HOST, own, ASKED, ASKED]), "the header twice");
    }

    #[test]
    fn a_change_of_another_site_is_refused() {
        for origin in [
            "http://evil.example",
            "http://shop.example",
            "http://shop.example:8081",
            "http://shop.example:8080.evil.example",
            "http://evil.example/http://shop.example:8080",
            "null",
            "",
            "shop.example:8080",
        ] {
            assert!(!passes(&[HOST, ASKED, ("origin", origin)]), "{origin}");
        }
        for site in ["cross-site", "same-site", "Cross-Site", ""] {
            assert!(!passes(&[HOST, ASKED, ("sec-fetch-site", site)]), "{site}");
        }
        let own = ("origin", "http://shop.example:8080");
        assert!(!passes(&[HOST, ASKED, own, ("origin", "http://evil.example")]), "two origins");
        assert!(!passes(&[HOST, HOST, ASKED, own]), "two hosts");
        assert!(!passes(&[ASKED, own]), "no host");
    }

    #[test]
    fn the_address_of_http_2_is_in_the_uri() {
        let request = Request::post("https://shop.example/status")
            .header("origin", "https://shop.example")
            .header("x-buttress-action", "1");
        let (head, ()) = request.body(()).unwrap().into_parts();
        assert!(check_origin(&head, &[]).is_ok());
    }

    #[test]
    fn the_body_must_be_json() {
        for json in ["application/json", "Application/JSON; charset=utf-8", " application/json ;x"]
        {
            assert!(check_content_type(&head(&[("content-type", json)])).is_ok(), "{json}");
        }
        for other in ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""] {
            let refused = check_content_type(&head(&[("content-type", other)])).unwrap_err();
            assert_eq!(refused.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{other}");
        }
        assert!(check_content_type(&head(&[])).is_err());
    }
}
