//! A disk that is full, before and during a download.

use std::process::Command;

use super::*;

/// Runs a test in a mount namespace of its own, with `root` on a disk of 1 MiB.
fn on_a_small_disk(test: impl FnOnce(&TempDir) + Send) {
    let root = TempDir::new().unwrap();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: only the namespace of this thread changes; no file descriptors are unshared.
            #[allow(unsafe_code)]
            unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }
                .expect("a mount namespace (needs root)");
            let mount = |options: &[&str]| {
                let mut mount = Command::new("mount");
                assert!(mount.args(options).status().unwrap().success(), "{options:?}");
            };
            mount(&["--make-rprivate", "/"]);
            mount(&["-t", "tmpfs", "-o", "size=1m", "tmpfs", root.path().to_str().unwrap()]);
            test(&root);
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

fn free(root: &TempDir) -> u64 {
    rustix::fs::statvfs(root.path()).unwrap().f_bavail
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_file_that_cannot_fit_is_not_begun() {
    on_a_small_disk(|root| {
        let server =
            Server::start(|_, request| Answer::file(request, "\"one\"", &content(1, 2 << 20)));
        let error = said(fetcher(root, NO_STALL).fetch(&kernel_only(factory(&server))));
        assert!(error.contains("is too full: 2097152 more bytes are needed, "), "{error}");
        assert!(error.ends_with("make room, or name another folder with --root"), "{error}");
        assert_eq!(
            std::fs::metadata(root.path().join("assets/.vmlinuz-amd64.part")).unwrap().len(),
            0
        );
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_disk_that_fills_up_gets_its_room_back() {
    on_a_small_disk(|root| {
        let server = Server::start(|_, _| {
            // Without a length, nothing can be known beforehand.
            let mut chunked = format!("{:x}\r\n", 2 << 20).into_bytes();
            chunked.extend(content(1, 2 << 20));
            chunked.extend(b"\r\n0\r\n\r\n");
            Answer::new("200 OK\r\nTransfer-Encoding: chunked", &chunked)
        });
        let before = free(root);
        let error = said(fetcher(root, NO_STALL).fetch(&kernel_only(factory(&server))));
        assert!(error.contains("what had come was deleted: the disk of "), "{error}");
        assert!(
            error.ends_with("is full: make room, or name another folder with --root"),
            "{error}"
        );
        assert_eq!(names(&root.path().join("assets")), [""; 0]);
        assert_eq!(free(root), before);
        assert_eq!(server.requests().len(), 1, "there is no use in trying again");
    });
}
