//! Servers that are silent, wrong or hostile.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use super::*;

#[test]
fn a_silent_server_is_asked_again() {
    let server = Server::start(|before, request| {
        let answer = good(before, request);
        if before == 0 { answer.without_last(200_000).then_silence() } else { answer }
    });
    let root = TempDir::new().unwrap();
    let fetcher = fetcher(&root, Duration::from_millis(200));
    fetcher.fetch(&kernel_only(factory(&server))).unwrap();
    assert_eq!(asset(&root, "vmlinuz-amd64").unwrap(), kernel());
    assert_eq!(server.requests()[1].from(), Some(100_000));
}

#[test]
fn a_server_that_stays_silent_is_given_up() {
    let server = Server::start(|_, _| Answer::new("200 OK", b"").without_last(4).then_silence());
    let root = TempDir::new().unwrap();
    let fetcher = fetcher(&root, Duration::from_millis(50));
    let error = said(fetcher.fetch(&kernel_only(factory(&server))));
    assert!(error.contains("the server is silent, 4 times in a row"), "{error}");
}

#[test]
fn a_missing_file_is_not_asked_for_twice() {
    let server = Server::start(|_, _| Answer::status("404 Not Found"));
    let root = TempDir::new().unwrap();
    let error = said(fetcher(&root, NO_STALL).fetch(&factory(&server)));
    let url = format!("{}/image/{}/v1.13.9/kernel-amd64", server.url, Schematic::plain());
    assert!(error.starts_with(&format!("cannot fetch {url}: ")), "{error}");
    assert!(
        error.ends_with(
            "check the version and the architecture of vmlinuz-amd64, and the \
        schematic or the mirror"
        ),
        "{error}"
    );
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_damaged_file_is_deleted_and_both_sums_are_named() {
    let server = Server::start(|before, request| match request.path.as_str() {
        "/sha256sum.txt" => Answer::text(&format!("{}  vmlinuz-amd64\n", "ab".repeat(32))),
        _ => good(before, request),
    });
    let root = TempDir::new().unwrap();
    let error = said(fetcher(&root, NO_STALL).fetch(&kernel_only(mirror(&server))));
    assert!(error.contains(&sha256(&kernel()).hex), "{error}");
    assert!(error.contains(&"ab".repeat(32)), "{error}");
    assert_eq!(names(&root.path().join("assets")), [""; 0]);
}

#[test]
fn a_bad_list_of_checksums_stops_the_fetch() {
    let long = "0".repeat(2 << 20);
    let twice = format!(
        "{}  vmlinuz-amd64\n{}  ../../etc/vmlinuz-amd64\n",
        "ab".repeat(32),
        "cd".repeat(32)
    );
    for (list, cause) in [
        (long.as_str(), "the answer is longer than 1048576 bytes"),
        (&twice, "it lists two checksums for vmlinuz-amd64"),
        ("<html>sign in first</html>", "it does not list vmlinuz-amd64"),
    ] {
        let list = list.to_owned();
        let server = Server::start(move |_, _| Answer::text(&list));
        let root = TempDir::new().unwrap();
        let error = said(fetcher(&root, NO_STALL).fetch(&mirror(&server)));
        assert!(error.contains(cause), "{error}");
        assert_eq!(server.paths(), ["/sha256sum.txt"]);
        assert_eq!(names(root.path()), ["assets"]);
        assert_eq!(names(&root.path().join("assets")), [""; 0]);
    }
}

#[test]
fn follows_redirects_but_not_in_circles() {
    let server = Server::start(|before, request| match request.path.strip_prefix("/elsewhere") {
        Some(_) => good(before, request),
        None => {
            let to = format!("302 Found\r\nLocation: /elsewhere{}", request.path);
            Answer::new(&format!("{to}\r\nContent-Length: 0"), b"")
        }
    });
    let root = TempDir::new().unwrap();
    fetcher(&root, NO_STALL).fetch(&factory(&server)).unwrap();
    assert_eq!(asset(&root, "vmlinuz-amd64").unwrap(), kernel());

    let circle = "302 Found\r\nLocation: /round\r\nContent-Length: 0";
    let server = Server::start(|_, _| Answer::new(circle, b""));
    let error = said(fetcher(&root, NO_STALL).fetch(&factory(&server)));
    assert!(error.ends_with("the server redirects in circles: check the URL"), "{error}");
}

#[test]
fn a_rest_that_does_not_fit_is_not_appended() {
    let server = Server::start(|before, request| match before {
        0 => good(before, request).without_last(200_000),
        // It says that the rest begins elsewhere.
        1 => Answer::new(
            "206 Partial Content\r\nContent-Range: bytes 0-299999/300000\r\nContent-Length: 300000",
            &kernel(),
        ),
        _ => good(before, request),
    });
    let root = TempDir::new().unwrap();
    fetcher(&root, NO_STALL).fetch(&kernel_only(factory(&server))).unwrap();
    assert_eq!(asset(&root, "vmlinuz-amd64").unwrap(), kernel());
    assert_eq!(server.requests()[2].from(), None);
}

#[test]
fn neither_a_web_page_nor_nothing_is_a_kernel() {
    for (head, body, cause) in [
        (
            "200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: 4",
            "<p/>",
            "a web page",
        ),
        ("200 OK\r\nContent-Length: 0", "", "an empty file"),
        ("200 OK\r\nTransfer-Encoding: chunked", "0\r\n\r\n", "an empty file"),
    ] {
        let server = Server::start(move |_, _| Answer::new(head, body.as_bytes()));
        let root = TempDir::new().unwrap();
        let error = said(fetcher(&root, NO_STALL).fetch(&factory(&server)));
        assert!(error.contains(cause), "{error}");
        assert_eq!(asset(&root, "vmlinuz-amd64"), None);
        assert_eq!(server.requests().len(), 1);
    }
}

#[test]
fn takes_a_file_whose_length_nobody_says() {
    let server = Server::start(|_, _| {
        let body = kernel();
        let mut chunked = format!("{:x}\r\n", body.len()).into_bytes();
        chunked.extend(body);
        chunked.extend(b"\r\n0\r\n\r\n");
        Answer::new("200 OK\r\nTransfer-Encoding: chunked", &chunked)
    });
    let root = TempDir::new().unwrap();
    fetcher(&root, NO_STALL).fetch(&kernel_only(factory(&server))).unwrap();
    assert_eq!(asset(&root, "vmlinuz-amd64").unwrap(), kernel());
}

#[test]
fn a_connection_that_is_not_secure_is_not_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        // It speaks no TLS, and is gone after the first connection.
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0; 5]).unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let root = TempDir::new().unwrap();
    let plan = Plan::new(&Source::Release(url.parse().unwrap()), &wanted());
    let error = said(fetcher(&root, NO_STALL).fetch(&plan));
    assert!(error.contains("no secure connection ("), "{error}");
    assert!(error.ends_with("check the URL and this machine's clock"), "{error}");
    server.join().unwrap();
}

#[test]
fn two_do_not_fetch_the_same_file() {
    let server = Server::start(good);
    let root = TempDir::new().unwrap();
    std::fs::create_dir(root.path().join("assets")).unwrap();
    let other = File::create(root.path().join("assets/.vmlinuz-amd64.part")).unwrap();
    other.try_lock().unwrap();
    let error = said(fetcher(&root, NO_STALL).fetch(&factory(&server)));
    assert!(error.starts_with("another process is fetching vmlinuz-amd64 into "), "{error}");
}

#[test]
fn a_factory_names_the_schematic_of_a_customization() {
    let id = "ab".repeat(32);
    let answer = format!("{{\"id\":\"{id}\"}}");
    let server = Server::start(move |_, request| match request.body.as_str() {
        "customization: {}\n" => Answer::new(
            &format!("201 Created\r\nContent-Length: {}", answer.len()),
            answer.as_bytes(),
        ),
        "bad" => Answer::new("400 Bad Request\r\nContent-Length: 11", b"no \x1bmapping"),
        _ => Answer::text("{\"id\":\"../../etc\"}"),
    });
    let root = TempDir::new().unwrap();
    let fetcher = fetcher(&root, NO_STALL);
    let base = server.url.parse().unwrap();
    let schematic = fetcher.schematic(&base, "customization: {}\n").unwrap();
    assert_eq!(schematic.to_string(), id);
    let request = &server.requests()[0];
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/schematics"));

    let error = format!("{:#}", fetcher.schematic(&base, "bad").unwrap_err());
    assert!(error.ends_with("refuses the schematic: no \\u{1b}mapping"), "{error}");
    let error = format!("{:#}", fetcher.schematic(&base, "odd").unwrap_err());
    assert!(error.ends_with("is it an Image Factory?"), "{error}");
}
