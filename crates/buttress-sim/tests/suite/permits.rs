//! The tables in the guide equal the output of its program.

#[path = "../../examples/permits.rs"]
mod program;

#[test]
fn the_tables_of_the_guide_are_what_its_program_prints() {
    let page = include_str!("../../src/guide/permits.md");
    let mut blocks = page.split("```text\n").skip(1).filter_map(|rest| rest.split("```").next());
    let mut block = || blocks.next().expect("the page has three tables");
    assert_eq!(program::table().unwrap(), block());
    assert_eq!(program::slow().unwrap(), block());
    assert_eq!(program::waits().unwrap(), block());
}
