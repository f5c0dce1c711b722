//! The handle of a mirror: it reads only the recording, and displaces no other handle.

use super::*;

#[test]
fn a_mirror_reads_the_recording_once_it_is_whole() {
    let steps = [Data("ab"), Data("cd"), Trailers(checksum())];
    let mut first = ReplayBody::new(script(steps), 64);
    let mirror = first.try_mirror().unwrap();
    let again = mirror.try_copy().unwrap();
    for got in [data("ab"), data("cd"), Got::Trailers(checksum())] {
        assert!(!mirror.can_repeat() && !mirror.commit() && !again.can_repeat());
        assert_eq!(poll(&mut first), got);
    }
    // Regression: a connection reads nothing after the trailers, and the mirror got no copy.
    assert!(first.is_end_stream());
    for mut mirror in [mirror, again] {
        assert!(mirror.can_repeat() && mirror.commit());
        for got in [data("abcd"), Got::Trailers(checksum()), Got::End] {
            assert_eq!(poll(&mut mirror), got);
        }
    }
}

#[test]
fn a_mirror_takes_over_from_no_attempt_and_no_attempt_from_it() {
    let mut first = ReplayBody::new(Full::new(Bytes::from_static(b"ab")), 64);
    let mut early = first.try_mirror().unwrap();
    assert_eq!(poll(&mut early), error(ReplayError::NotRecorded));
    let mut second = first.try_copy().unwrap();
    let mut mirror = second.try_mirror().unwrap();
    assert_eq!(poll(&mut first), data("ab"));
    assert!(mirror.commit());
    assert_eq!(first.size_hint().exact(), Some(0));
    assert_eq!(poll(&mut first), Got::End, "not displaced");
    assert!(second.commit());
    assert_eq!(poll(&mut mirror), data("ab"));
    assert_eq!(poll(&mut second), data("ab"));
    assert!(mirror.is_end_stream() && second.is_end_stream());
}

#[test]
fn a_body_that_is_not_recorded_has_no_mirror() {
    let long = ReplayBody::new(Full::new(Bytes::from_static(b"abcde")), 4);
    assert!(long.try_mirror().is_none());
    let mut outgrown = ReplayBody::new(script([Data("abc"), Data("de")]), 4);
    let mut mirror = outgrown.try_mirror().unwrap();
    for got in [data("abc"), data("de"), Got::End] {
        assert_eq!(poll(&mut outgrown), got);
    }
    assert!(!mirror.can_repeat());
    assert_eq!(poll(&mut mirror), error(ReplayError::NotRecorded));
    let mut endless = ReplayBody::new(script([Data("ab")]), 64);
    let mirror = endless.try_mirror().unwrap();
    assert_eq!(poll(&mut endless), data("ab"));
    assert!(!mirror.can_repeat(), "the end was not seen");
    let mut broken = ReplayBody::new(script([Data("ab"), Error]), 64);
    let mirror = broken.try_mirror().unwrap();
    assert_eq!((poll(&mut broken), poll(&mut broken)), (data("ab"), error("the upload broke")));
    assert!(!mirror.can_repeat());
}
