use buttress::aggregate::Aggregate;
use tower::{BoxError, ServiceExt, service_fn};

use super::*;

/// The page of an order whose optional parts fail as `down` says.
async fn page(down: [bool; 2]) -> Response<String> {
    let part = |fails: bool| {
        service_fn(move |id: u32| {
            std::future::ready(if fails { Err(BoxError::from("down")) } else { Ok(id) })
        })
    };
    let page = Aggregate::builder()
        .required("order", part(false))
        .optional("payment", part(down[0]))
        .optional("stock", part(down[1]))
        .build()
        .unwrap();
    let parts = page.oneshot(7).await.unwrap();
    respond(parts, |(order, ..), partial| format!(r#"{{"order":{order},"partial":{partial}}}"#))
}

#[tokio::test(start_paused = true)]
async fn edge_4_6_a_page_with_missing_parts_is_200_and_states_them() {
    let cases = [
        ([true, false], "payment", r#"["payment"]"#),
        ([true, true], "payment, stock", r#"["payment","stock"]"#),
    ];
    for (down, header, array) in cases {
        let response = page(down).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["x-partial"], header);
        assert_eq!(response.headers()["cache-control"], "no-store");
        assert_eq!(*response.body(), format!(r#"{{"order":7,"partial":{array}}}"#));
    }
}

#[tokio::test(start_paused = true)]
async fn edge_4_6_a_whole_page_has_no_header_of_its_own() {
    let response = page([false, false]).await;
    assert_eq!((response.status().as_u16(), response.headers().len()), (200, 0));
    assert_eq!(response.body(), r#"{"order":7,"partial":[]}"#);
}
