//! Tests of resuming and of reading answers.

use proptest::prelude::*;

use super::*;

const URL: &str = "http://mirror/vmlinuz-amd64";

fn etag(tag: &str) -> Option<Validator> {
    Some(Validator::Etag(tag.to_owned()))
}

fn note() -> Note {
    Note { url: URL.to_owned(), validator: etag("\"a\""), length: Some(10), sha256: None }
}

fn head(status: u16, range: &str) -> Head {
    Head { status, range: Some(range.to_owned()), ..Head::default() }
}

#[test]
fn asks_for_the_rest_of_the_same_file_only() {
    let rest = ask(Some(&note()), 4, URL);
    let fields = vec![("range", "bytes=4-".to_owned()), ("if-range", "\"a\"".to_owned())];
    assert_eq!(rest, Ask { from: 4, fields });

    let dated = Note { validator: Some(Validator::LastModified("Sun".to_owned())), ..note() };
    assert_eq!(ask(Some(&dated), 4, URL).fields[1], ("if-range", "Sun".to_owned()));

    let weak = Note { validator: etag("W/\"a\""), ..note() };
    let unmarked = Note { validator: None, ..note() };
    for (note, have, url) in [
        (None, 4, URL),
        (Some(&note()), 0, URL),
        (Some(&note()), 11, URL),
        (Some(&note()), 4, "http://mirror/other"),
        (Some(&weak), 4, URL),
        (Some(&unmarked), 4, URL),
    ] {
        assert_eq!(ask(note, have, url), Ask { from: 0, fields: vec![] });
    }
}

#[test]
fn takes_the_rest_only_where_it_fits() {
    let (note, all) = (note(), ask(None, 0, URL));
    let rest = ask(Some(&note), 4, URL);
    let answered = |ask: &Ask, head: &Head| answered(ask, Some(&note), head);
    assert_eq!(answered(&rest, &head(206, "bytes 4-9/10")), Ok(Body::Rest { total: 10 }));
    assert_eq!(answered(&rest, &head(200, "")), Ok(Body::Whole), "the file has changed");
    for range in [
        "",
        "bytes 4-9/*",
        "bytes 5-9/10",
        "bytes 4-8/10",
        "bytes 4-10/11",
        "bytes 4-3/4",
        "bytes */10",
        "octets 4-9/10",
        "bytes 4-18446744073709551615/10",
    ] {
        assert_eq!(answered(&rest, &head(206, range)), Err(Refused::BadPart), "{range}");
    }
    assert_eq!(answered(&all, &head(206, "bytes 0-9/10")), Err(Refused::BadPart), "unasked");
    assert_eq!(answered(&rest, &head(416, "bytes */3")), Err(Refused::BadPart));
    assert_eq!(answered(&all, &head(416, "")), Err(Refused::Other(416)));
    assert_eq!(answered(&all, &head(404, "")), Err(Refused::NotFound(404)));
    assert_eq!(answered(&all, &head(503, "")), Err(Refused::Busy(503)));
    assert_eq!(answered(&all, &head(403, "")), Err(Refused::Other(403)));
    let page = Head { page: true, ..head(200, "") };
    assert_eq!(answered(&all, &page), Err(Refused::Page));
    let empty = Head { length: Some(0), ..head(200, "") };
    assert_eq!(answered(&all, &empty), Err(Refused::Empty));
}

#[test]
fn knows_a_file_that_is_there_already() {
    let kept = Note { sha256: Some("ab".to_owned()), ..note() };
    let head = Head { status: 200, length: Some(10), validator: etag("\"a\""), ..Head::default() };
    let current = |note: &Note, sha256, head: &Head| is_current(note, 10, sha256, URL, head);
    assert!(current(&kept, "ab", &head));
    assert!(!current(&kept, "cd", &head), "changed here");
    assert!(!current(&note(), "ab", &head), "never finished");
    assert!(!current(&kept, "ab", &Head { validator: etag("\"b\""), ..head.clone() }));
    assert!(!current(&kept, "ab", &Head { status: 404, ..head.clone() }));
    let unmarked = Head { validator: None, ..head };
    assert!(current(&kept, "ab", &unmarked));
    assert!(!current(&kept, "ab", &Head { length: Some(11), ..unmarked }));
}

#[test]
fn gives_up_after_the_last_pause() {
    let pauses = [Duration::from_secs(1), Duration::from_secs(2)];
    let all: Vec<_> = (0..4).map(|failures| pause(&pauses, failures)).collect();
    assert_eq!(all, [None, Some(pauses[0]), Some(pauses[1]), None]);
}

proptest! {
    #[test]
    fn any_content_range_is_read_without_panic(field in "(bytes )?\\PC{0,40}") {
        let _ = content_range(&field);
    }

    #[test]
    fn a_rest_always_starts_where_the_part_ends(
        have in 0u64..20, from in 0u64..20, last in 0u64..20, total in 0u64..20
    ) {
        let ask = ask(Some(&note()), have, URL);
        let head = head(206, &format!("bytes {from}-{last}/{total}"));
        if let Ok(body) = answered(&ask, Some(&note()), &head) {
            prop_assert_eq!(body, Body::Rest { total: 10 });
            prop_assert_eq!((from, last), (have, 9));
        }
    }
}
