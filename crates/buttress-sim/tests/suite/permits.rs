//! The table in the guide equals the output of its program.

#[path = "../../examples/permits.rs"]
mod program;

#[test]
fn the_table_of_the_guide_is_what_its_program_prints() {
    let page = include_str!("../../src/guide/permits.md");
    let (_, rest) = page.split_once("```text\n").expect("the page has a table");
    let (table, _) = rest.split_once("```").expect("the table ends");
    assert_eq!(program::table().unwrap(), table);
}
