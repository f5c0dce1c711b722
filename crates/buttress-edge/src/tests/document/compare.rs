//! The comparison of a shadow in a document.

use buttress::Clock;

use super::sides::{answers, side};
use super::*;

const COMPARED: &str = "[routes.orders]\npublic = true\nupstream = { urls = [\"http://old\"] }\n\
                        [routes.orders.shadow]\nupstream = { urls = [\"http://new\"] }\n\
                        share = 1.0\nkeep-one-in = 1\n";

/// Sends a request, and waits for the end of its comparison.
async fn compare(edge: &Edge) {
    assert_eq!(side(edge).await, (200, "old".into()));
    let shadow = edge.proxy.handle().shadow("orders").unwrap();
    while shadow.stats().running > 0 {
        // The clock moves only while all tasks wait.
        Clock::default().sleep(std::time::Duration::from_millis(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn edge_3_10_a_document_says_what_is_compared_and_the_numbers_go_on() {
    let edge = Edge::new(Config::new(), []);
    answers(&edge, "old");
    answers(&edge, "new");
    answers(&edge, "newest");
    let handle = edge.proxy.handle();
    // The bodies are "old" and "new", and the fields are equal.
    for (keys, same, body) in [
        ("", 0, 1),
        ("max-compared-body = 0", 1, 1),
        ("max-compared-body = 0\ncompare-fields = [\"content-length\"]", 2, 1),
        ("max-compared-body = 3", 2, 2),
        // Both bodies are longer.
        ("max-compared-body = 2", 2, 2),
    ] {
        handle.apply(&toml(&format!("{COMPARED}{keys}"))).unwrap();
        compare(&edge).await;
        let stats = handle.shadow("orders").unwrap().stats();
        let mismatches = handle.shadow_mismatches("orders").unwrap();
        assert_eq!((stats.same, mismatches.body), (same, body), "{keys}");
        assert_eq!(mismatches.total(), stats.different, "{keys}");
    }
    assert_eq!(handle.shadow("orders").unwrap().stats().incomparable, 1);
    // Answers of another length, whose bodies are not compared.
    let longer = COMPARED.replace("http://new", "http://newest");
    let chosen = "max-compared-body = 0\ncompare-fields = [\"Content-Length\"]";
    handle.apply(&toml(&format!("{longer}{chosen}"))).unwrap();
    compare(&edge).await;
    assert_eq!(handle.shadow_mismatches("orders").unwrap().fields, 1);
    // Another limit of slots is another mirror, whose numbers begin at 0.
    handle.apply(&toml(&format!("{COMPARED}max-running = 3"))).unwrap();
    assert_eq!(handle.shadow_mismatches("orders").unwrap().total(), 0);
}
