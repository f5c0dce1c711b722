//! A page of live handles: the numbers and the buttons of an operator.

use std::fmt::Write;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{Html, Redirect};
use axum::routing::{get, post};
use buttress::registry::{Pattern, Registry};

use crate::protection::Protection;

/// Returns `/status`, and the routes of its buttons.
pub(crate) fn routes(protection: &Protection) -> Router {
    Router::new()
        .route("/status", get(page))
        .route("/circuits/{name}/{action}", post(act))
        .with_state(protection.registry.clone())
}

async fn act(
    State(registry): State<Registry>,
    Path((name, action)): Path<(String, String)>,
) -> Result<Redirect, (StatusCode, String)> {
    let breaker = registry
        .circuit_breaker(&name)
        .map_err(|error| (StatusCode::NOT_FOUND, format!("{error}\n")))?
        .handle();
    match action.as_str() {
        "force-open" => breaker.force_open(),
        "reset" => breaker.reset(),
        other => return Err((StatusCode::NOT_FOUND, format!("cannot {other} a circuit\n"))),
    }
    Ok(Redirect::to("/status"))
}

async fn page(State(registry): State<Registry>) -> Html<String> {
    let mut rows = String::new();
    // Writing to a string cannot fail.
    let _ = circuits(&registry, &mut rows);
    let _ = limits(&registry, &mut rows);
    Html(format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>Storefront</title>\
         <meta http-equiv=refresh content=1>\
         <style>body{{font:16px/1.5 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em}}\
         table{{border-collapse:collapse;width:100%;margin-bottom:2em}}\
         th,td{{text-align:left;padding:.4em .8em;border-bottom:1px solid #ddd}}\
         td.n{{text-align:right;font-variant-numeric:tabular-nums}}\
         .closed{{color:#176f2c}}.open,.forced-open{{color:#b3261e;font-weight:600}}\
         .half-open{{color:#8a5a00;font-weight:600}}form{{display:inline}}button{{font:inherit}}</style>\
         <h1>Storefront</h1>{rows}<p>The page reloads itself every second.</p></html>"
    ))
}

fn circuits(registry: &Registry, out: &mut String) -> std::fmt::Result {
    out.write_str(
        "<h2>Circuits</h2><table><tr><th>name<th>state<th>in window<th>failed<th>refused\
         <th>opened<th></tr>",
    )?;
    for name in registry.names(Pattern::CircuitBreaker) {
        let Ok(breaker) = registry.circuit_breaker(name.as_str()) else { continue };
        let stats = breaker.handle().stats();
        write!(
            out,
            "<tr><td>{name}<td class={state}>{state}<td class=n>{}<td class=n>{}<td class=n>{}\
             <td class=n>{}<td><form method=post action=/circuits/{name}/force-open>\
             <button>force open</button></form> <form method=post action=/circuits/{name}/reset>\
             <button>reset</button></form></tr>",
            stats.window_calls,
            stats.window_failures,
            stats.refused,
            stats.opened,
            state = stats.state,
        )?;
    }
    out.write_str("</table>")
}

fn limits(registry: &Registry, out: &mut String) -> std::fmt::Result {
    out.write_str(
        "<h2>Limits</h2><table><tr><th>name<th>kind<th>now<th>of<th>admitted<th>refused</tr>",
    )?;
    let mut row = |name, kind: &str, now: u32, of: u32, admitted: Option<u64>, refused: u64| {
        let admitted = admitted.unwrap_or_default();
        write!(
            out,
            "<tr><td>{name}<td>{kind}<td class=n>{now}<td class=n>{of}<td class=n>{admitted}\
             <td class=n>{refused}</tr>"
        )
    };
    for name in registry.names(Pattern::RateLimiter) {
        let Ok(limiter) = registry.rate_limiter(name.as_str()) else { continue };
        let stats = limiter.handle().stats();
        let kind = "rate limit (tokens left)";
        row(name, kind, stats.available, stats.max_tokens, stats.admitted, stats.refused)?;
    }
    for name in registry.names(Pattern::Bulkhead) {
        let Ok(bulkhead) = registry.bulkhead(name.as_str()) else { continue };
        let stats = bulkhead.handle().stats();
        let kind = "bulkhead (running)";
        row(name, kind, stats.active, stats.max_concurrent, stats.admitted, stats.refused)?;
    }
    out.write_str(
        "</table><h2>Retries</h2><table><tr><th>name<th>calls<th>retries<th>exhausted</tr>",
    )?;
    for name in registry.names(Pattern::Retry) {
        let Ok(retry) = registry.retry(name.as_str()) else { continue };
        let stats = retry.handle().stats();
        let calls = stats.calls.unwrap_or_default();
        write!(
            out,
            "<tr><td>{name}<td class=n>{calls}<td class=n>{}<td class=n>{}</tr>",
            stats.retries, stats.exhausted
        )?;
    }
    out.write_str("</table>")
}
