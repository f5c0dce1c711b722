//! The mistakes users make do not compile, and the message says what to write.

#[test]
fn mistakes_do_not_compile_and_the_messages_help() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}
