//! Nanoseconds that the XDP program takes for an answer, by the kernel's test run, without a
//! network card. Needs root. `--json` prints JSON instead of a table, `--rounds N` measures more or
//! less often: the kernel waits for all CPUs before each of these runs, which takes long where they
//! are busy.

#![allow(clippy::print_stdout, clippy::indexing_slicing, clippy::expect_used)]

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use anyhow::{Result, ensure};
use aya::maps::Array;
use aya::programs::{TestRun as _, TestRunOptions};
use talos_pxe::decisions::boot::loader::{Loaders, Ukis};
use talos_pxe::decisions::boot::origin::Origin;
use talos_pxe::decisions::dhcp::server::Settings;
use talos_pxe::decisions::dhcp::templates::{self, Sender};
use talos_pxe::edges::xdp::Loaded;
use talos_pxe::time::BootTime;
use talos_pxe::wire::MacAddr;
use talos_pxe::wire::dhcp::{Message, MessageType, Opcode, OptionCode};
use talos_pxe::wire::frame::UdpFrame;
use talos_pxe_ebpf::maps::{SAMPLE, Sample};

const OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/xdp-bench.o"));

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// As many machines as two octets tell apart.
const MACHINES: u32 = 65_536;
/// Runs in one go: their events fit the ring buffer.
const REPEAT: u32 = 4096;
const ROUNDS: usize = 200;

const XDP_TX: u32 = 3;

fn rounds() -> usize {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--rounds").skip(1);
    arguments.next().and_then(|number| number.parse().ok()).unwrap_or(ROUNDS)
}

struct Row {
    what: &'static str,
    octets: usize,
    machines: u32,
    answer: f64,
    swap: f64,
}

fn main() -> Result<()> {
    let mut bench = Bench::new()?;
    let mut rows = Vec::new();
    for (what, kind) in [("DISCOVER", MessageType::Discover), ("REQUEST", MessageType::Request)] {
        for octets in [300, 548] {
            for machines in [1, MACHINES] {
                rows.push(bench.measure(what, kind, octets, machines)?);
            }
        }
    }
    if std::env::args().any(|argument| argument == "--json") {
        let rows: Vec<_> = rows
            .iter()
            .map(|row| {
                serde_json::json!({
                    "request": row.what,
                    "octets": row.octets,
                    "machines": row.machines,
                    "nanoseconds": row.answer,
                    "swap_nanoseconds": row.swap,
                })
            })
            .collect();
        println!("{}", serde_json::to_string_pretty(&rows)?);
        return Ok(());
    }
    println!("| request | octets | machines | ns per answer | ns to swap MACs | ratio |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for Row { what, octets, machines, answer, swap } in rows {
        let ratio = answer / swap;
        println!("| {what} | {octets} | {machines} | {answer:.0} | {swap:.1} | {ratio:.0} |");
    }
    Ok(())
}

struct Bench {
    loaded: Loaded,
}

impl Bench {
    fn new() -> Result<Self> {
        let settings = Settings {
            subnet: "10.0.0.1/8".parse()?,
            router: SERVER,
            dns: vec![SERVER],
            lease_time: Duration::from_secs(300),
            loaders: Loaders {
                origin: Origin { address: SERVER, port: 8080 },
                bios: "undionly.kpxe".into(),
                uefi: "snponly.efi".into(),
                arm64: None,
                ukis: Ukis::default(),
            },
        };
        let sender = Sender {
            mac: MacAddr([2, 0, 0, 0, 0, 1]),
            own: settings.subnet,
            dhcp_port: 67,
            pxe_port: 4011,
        };
        let answers = templates::of_server(&settings, &sender);
        let mut loaded = Loaded::from_object(OBJECT, &answers, MACHINES)?;
        for program in ["restore", "restore_and_answer", "swap"] {
            loaded.program(program)?.load()?;
        }
        let horizon = BootTime::now() + Duration::from_secs(86_400);
        for machine in 0..MACHINES {
            loaded.maps.insert(mac(machine), address(machine), horizon)?;
        }
        Ok(Self { loaded })
    }

    fn measure(
        &mut self,
        what: &'static str,
        kind: MessageType,
        octets: usize,
        machines: u32,
    ) -> Result<Row> {
        let frame = request(kind, octets);
        let mut sample = Sample {
            length: u32::try_from(frame.len())?,
            machines: machines - 1,
            frame: [0; Sample::FRAME],
        };
        sample.frame[..frame.len()].copy_from_slice(&frame);
        Array::try_from(self.loaded.map(SAMPLE)?)?.set(0, sample, 0)?;
        // The best of many: what else the machine does can only add to it. An ACK to more than
        // one machine is for another address each time, so those requests name none.
        let best = |bench: &mut Self, program| -> Result<f64> {
            let mut best = f64::INFINITY;
            for _ in 0..rounds() {
                best = best.min(bench.run(program, &frame)?);
            }
            Ok(best)
        };
        let restore = best(self, "restore")?;
        let both = best(self, "restore_and_answer")?;
        let swap = best(self, "swap")?;
        Ok(Row { what, octets, machines, answer: both - restore, swap })
    }

    fn run(&mut self, program: &str, frame: &[u8]) -> Result<f64> {
        let mut options = TestRunOptions::new();
        options.data_in = Some(frame);
        options.repeat = REPEAT;
        let result = self.loaded.program(program)?.test_run(options)?;
        let sent = self.loaded.maps.events(usize::MAX).len();
        ensure!(
            program != "restore_and_answer" || sent == REPEAT as usize,
            "{sent} of {REPEAT} requests were answered: {:?}",
            self.loaded.maps.counters()?
        );
        ensure!(program == "restore" || result.return_value == XDP_TX, "{}", result.return_value);
        Ok(result.duration.as_nanos() as f64)
    }
}

fn mac(machine: u32) -> MacAddr {
    let [.., a, b] = machine.to_be_bytes();
    MacAddr([0x52, 0x54, 0, 0, a, b])
}

/// All machines have the same address here: their requests name it.
fn address(_machine: u32) -> Ipv4Addr {
    Ipv4Addr::new(10, 1, 0, 1)
}

/// A request such as EDK2 sends, in a message of this many octets.
fn request(kind: MessageType, octets: usize) -> Vec<u8> {
    let mut message = Message::new(Opcode::BootRequest, kind, 0x1234_5678, mac(0));
    message.broadcast = true;
    let options = &mut message.options;
    if kind == MessageType::Request {
        options.add_addresses(OptionCode::ServerIdentifier, &[SERVER]);
        options.add_addresses(OptionCode::RequestedIpAddress, &[address(0)]);
    }
    options.append(OptionCode::MaxMessageSize, &[5, 0xc0]);
    options.append(OptionCode::ParameterRequestList, &(1..36).collect::<Vec<u8>>());
    options.append(OptionCode::ClientMachineIdentifier, &[7; 17]);
    options.append(OptionCode::ClientNetworkInterface, &[1, 3, 16]);
    options.append(OptionCode::ClientSystemArchitecture, &[0, 7]);
    options.append(OptionCode::ClassIdentifier, b"PXEClient:Arch:00007:UNDI:003016");
    let mut payload = message.encode();
    payload.resize(payload.len().max(octets), 0);
    UdpFrame {
        source_mac: mac(0),
        destination_mac: MacAddr::BROADCAST,
        source: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68),
        destination: SocketAddrV4::new(Ipv4Addr::BROADCAST, 67),
        payload: &payload,
    }
    .encode()
}
