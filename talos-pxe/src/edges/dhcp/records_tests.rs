//! What DHCP leaves in the records of machines.

use super::*;
use crate::state::machines::{Firmware, Machine};
use crate::wire::Hostname;
use talos_pxe_ebpf::class::Class;

const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 1]);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
const LEASE_TIME: Duration = Duration::from_secs(300);

fn records(lease_time: Option<Duration>) -> Records {
    Records { machines: Arc::new(Machines::in_memory()), lease_time }
}

impl Records {
    fn record(&self) -> Option<Machine> {
        self.machines.get(MAC)
    }

    /// Its address, that long after now.
    fn present_in(&self, wait: Duration) -> Option<IpAddr> {
        self.record()?.present_at(BootTime::now() + wait)
    }
}

fn request(kind: MessageType, options: &[(OptionCode, &[u8])]) -> Message {
    let mut message = Message::new(Opcode::BootRequest, kind, 1, MAC);
    for (code, value) in options {
        message.options.append(*code, value);
    }
    message
}

fn of_rom(kind: MessageType) -> Message {
    let class = b"PXEClient:Arch:00007:UNDI:003000";
    request(kind, &[(OptionCode::ClassIdentifier, class)])
}

fn reply(kind: MessageType, address: Ipv4Addr) -> Message {
    let message = Message::new(Opcode::BootReply, kind, 1, MAC);
    Message { yiaddr: address, ..message }
}

#[test]
fn a_boot_gets_a_record_and_a_phone_none() {
    let records = records(Some(LEASE_TIME));
    records.asked(&request(MessageType::Discover, &[]));
    records.answered(&reply(MessageType::Ack, ADDRESS));
    assert_eq!(records.record(), None);

    records.asked(&of_rom(MessageType::Discover));
    let record = records.record().unwrap();
    assert_eq!(record.stage, Some(Stage::Discovered));
    assert_eq!(record.firmware, Some(Firmware::Uefi));
    assert_eq!(record.architecture, Some(Architecture::UefiX64));
    records.answered(&reply(MessageType::Offer, ADDRESS));
    let record = records.record().unwrap();
    assert_eq!((record.stage, record.address), (Some(Stage::Offered), None), "no lease yet");

    // Its operating system is known by its MAC address, whatever else it says.
    let name: &[u8] = b"Node1";
    records.asked(&request(MessageType::Request, &[(OptionCode::Hostname, name)]));
    let record = records.record().unwrap();
    assert_eq!(record.hostname.as_ref().map(Hostname::as_str), Some("node1"));
    assert_eq!(record.firmware, Some(Firmware::Uefi));
    records.asked(&request(MessageType::Request, &[(OptionCode::Hostname, b"\xff")]));
    assert_eq!(records.record().unwrap().hostname, record.hostname);
}

#[test]
fn a_machine_is_there_while_its_lease_lasts() {
    let records = records(Some(LEASE_TIME));
    records.asked(&of_rom(MessageType::Request));
    records.answered(&reply(MessageType::Ack, ADDRESS));
    assert_eq!(records.present_in(LEASE_TIME / 2), Some(ADDRESS.into()));
    assert_eq!(records.present_in(LEASE_TIME * 2), None);
    records.left(MAC);
    assert_eq!(records.present_in(Duration::ZERO), None);
    records.answered(&reply(MessageType::Nak, Ipv4Addr::UNSPECIFIED));
    assert_eq!(records.present_in(Duration::ZERO), None);
}

#[test]
fn beside_another_server_its_requests_tell_the_address() {
    let octets = ADDRESS.octets();
    let wanted = [(OptionCode::RequestedIpAddress, &octets[..])];
    for (records, known) in
        [(records(None), Some(ADDRESS.into())), (records(Some(LEASE_TIME)), None)]
    {
        records.asked(&of_rom(MessageType::Discover));
        records.asked(&request(MessageType::Discover, &wanted));
        assert_eq!(records.record().unwrap().address, None, "it is only a wish");
        records.asked(&request(MessageType::Request, &wanted));
        assert_eq!(records.record().unwrap().address, known);
    }
    let records = records(None);
    records.asked(&Message { ciaddr: ADDRESS, ..of_rom(MessageType::Request) });
    assert_eq!(records.present_in(LEASE_TIME * 9), Some(ADDRESS.into()));
}

#[test]
fn answers_of_the_xdp_program_count() {
    let records = records(Some(LEASE_TIME));
    let class = Class::pxe(0);
    let time = BootTime::now();
    let sent = |answer, address| Sent { time, mac: MAC, answer, class, address };
    records.sent(&[Sent { class: Class::PLAIN, ..sent(Answer::Ack, Some(ADDRESS)) }]);
    assert_eq!(records.record(), None);
    records.sent(&[sent(Answer::Offer, Some(ADDRESS))]);
    let record = records.record().unwrap();
    assert_eq!((record.stage, record.firmware), (Some(Stage::Offered), Some(Firmware::Bios)));
    records.sent(&[sent(Answer::Ack, Some(ADDRESS))]);
    assert_eq!(records.present_in(LEASE_TIME / 2), Some(ADDRESS.into()));
}

#[test]
fn replies_and_malformed_names_are_nothing() {
    let records = records(Some(LEASE_TIME));
    records.asked(&Message { op: Opcode::BootReply, ..of_rom(MessageType::Discover) });
    assert_eq!(records.record(), None);
}
