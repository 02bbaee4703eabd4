//! What a machine gets by HTTP: its script, the kernel, the initramfs and its config.

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::Result;

use super::super::fetch::{self, Body, Connection};
use super::super::script::Script;
use super::super::{Plan, Stage, World};
use super::{Machine, Step, System};

impl Machine {
    /// Begins to download something by HTTP, by the connection that there is.
    pub(super) fn fetch(
        &mut self,
        world: &mut World<'_>,
        stage: Stage,
        url: &str,
        now: Instant,
    ) -> Result<()> {
        let Some((host, path)) = fetch::parse(url) else {
            self.fail(stage, &format!("not a URL for it: {url:?}"));
            return Ok(());
        };
        self.heard = now;
        self.step = Step::Http(stage, url.to_owned());
        // iPXE keeps its connection; the system that it starts has another.
        let kept = self.connection.as_mut().filter(|connection| connection.serves(host));
        match kept.filter(|_| stage != Stage::Config) {
            Some(connection) => {
                connection.ask(path, body(stage));
                self.on_connection(world, now)
            }
            None => self.connect(world, (stage, host), path),
        }
    }

    fn connect(
        &mut self,
        world: &World<'_>,
        (stage, host): (Stage, SocketAddr),
        path: &str,
    ) -> Result<()> {
        let (token, ends) = (self.number.into(), (self.address, host));
        let connection = Connection::open(&world.ready, token, ends, path, body(stage))?;
        self.connection = Some(connection);
        Ok(())
    }

    pub(super) fn on_connection(&mut self, world: &mut World<'_>, now: Instant) -> Result<()> {
        let Step::Http(stage, url) = &self.step else { return Ok(()) };
        let Some(connection) = &mut self.connection else { return Ok(()) };
        let stage = *stage;
        self.heard = now;
        match connection.take(&world.ready, self.number.into(), &mut world.scratch) {
            Ok(fetch::Progress::Pending) => Ok(()),
            Ok(fetch::Progress::Done(length, text)) => {
                self.on_file(world, stage, length, &text, now)
            }
            Ok(fetch::Progress::Closed) => {
                let url = url.clone();
                self.count(stage, 1);
                self.connection = None;
                self.fetch(world, stage, &url, now)
            }
            Err(why) => {
                self.fail(stage, &why);
                Ok(())
            }
        }
    }

    /// Checks what it has got, and goes on to the next.
    fn on_file(
        &mut self,
        world: &mut World<'_>,
        stage: Stage,
        length: u64,
        text: &[u8],
        now: Instant,
    ) -> Result<()> {
        let Plan { kernel, initramfs, config, .. } = world.plan;
        let right = match stage {
            Stage::Kernel => length == *kernel,
            Stage::Initramfs => length == *initramfs,
            Stage::Config => text == config,
            _ => true,
        };
        if !right {
            self.fail(stage, &format!("{length} octets of something else"));
            return Ok(());
        }
        let system = self.system.take();
        let next = match (stage, system) {
            (Stage::Script, _) => match Script::read(&String::from_utf8_lossy(text), self.mac) {
                Some(Script::Chain(url)) => return self.fetch(world, stage, &url, now),
                Some(Script::System { kernel, initramfs, config }) => {
                    self.system = Some(System { initramfs, config });
                    Some((Stage::Kernel, kernel))
                }
                None => {
                    self.fail(stage, "the script starts nothing");
                    return Ok(());
                }
            },
            (Stage::Kernel, Some(system)) => {
                let url = system.initramfs.clone();
                self.system = Some(system);
                Some((Stage::Initramfs, url))
            }
            (Stage::Initramfs, Some(system)) => Some((Stage::Config, system.config)),
            _ => None,
        };
        self.finish(stage, now);
        match next {
            Some((stage, url)) => self.fetch(world, stage, &url, now),
            None => {
                self.up = Some(now);
                self.end();
                Ok(())
            }
        }
    }
}

fn body(stage: Stage) -> Body {
    match stage {
        Stage::Kernel | Stage::Initramfs => Body::Image,
        _ => Body::Text,
    }
}
