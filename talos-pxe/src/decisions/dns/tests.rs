//! Tests of [`super`].

use hickory_proto::op::{Edns, MessageType};
use hickory_proto::rr::Name;
use proptest::prelude::*;

use super::*;
use crate::wire::dns::Transport;

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 50));

fn zone() -> Zone {
    let machine = |last, is_control_plane| {
        let name = format!("n{last}").parse().unwrap();
        (Some(name), Ipv4Addr::new(10, 9, 0, last), is_control_plane)
    };
    let own = "10.9.0.1/24".parse().unwrap();
    let control_plane = parse_name("controlplane.talos.").unwrap();
    Zone::new(own, &control_plane, (11..200).map(|last| machine(last, last < 160)))
}

fn policy(forwards: bool) -> Policy {
    Policy { served: vec!["10.9.0.1/24".parse().unwrap()], forwards }
}

/// A request that wants recursion.
fn request(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

fn decide_from(client: IpAddr, message: &Message, forwards: bool) -> Decision {
    let request = Request::parse(&message.to_vec().unwrap()).unwrap();
    decide(&request, client, &zone(), &policy(forwards))
}

/// The answer of a server that forwards.
fn answer(message: &Message) -> Message {
    match decide_from(CLIENT, message, true) {
        Decision::Answer(answer) => answer,
        Decision::Forward(query) => panic!("{query} is forwarded"),
    }
}

fn code(message: &Message) -> ResponseCode {
    answer(message).metadata.response_code
}

#[test]
fn answers_for_our_names_with_authority() {
    let found = answer(&request("N11.talos.", RecordType::A));
    assert_eq!(found.metadata.response_code, ResponseCode::NoError);
    assert!(found.metadata.authoritative && found.metadata.recursion_available);
    assert_eq!(found.answers[0].to_string(), "N11.talos. 60 IN A 10.9.0.11");

    for (name, kind, expected) in [
        ("n11.talos.", RecordType::AAAA, ResponseCode::NoError),
        ("nobody.talos.", RecordType::A, ResponseCode::NXDomain),
        ("9.0.9.10.in-addr.arpa.", RecordType::PTR, ResponseCode::NXDomain),
    ] {
        let none = answer(&request(name, kind));
        assert_eq!(none.metadata.response_code, expected, "{name}");
        assert!(none.metadata.authoritative && none.answers.is_empty());
        assert_eq!(none.authorities.len(), 1);
        assert_eq!(none.authorities[0].record_type(), RecordType::SOA);
    }
}

#[test]
fn serves_only_its_clients() {
    for (client, served) in [
        ("10.9.0.50", true),
        ("127.0.0.1", true),
        ("::1", true),
        ("::ffff:10.9.0.50", true),
        ("10.9.1.50", false),
        ("198.51.100.1", false),
        ("fe80::1", false),
    ] {
        let client = client.parse().unwrap();
        for name in ["n11.talos.", "example.com."] {
            let decision = decide_from(client, &request(name, RecordType::A), true);
            match decision {
                Decision::Answer(answer) if !served => {
                    assert_eq!(answer.metadata.response_code, ResponseCode::Refused);
                    assert!(!answer.metadata.recursion_available);
                    assert!(answer.answers.is_empty() && answer.authorities.is_empty());
                }
                Decision::Answer(answer) => assert_eq!(answer.answers.len(), 1, "{client} {name}"),
                Decision::Forward(_) => assert!(served && name == "example.com.", "{client}"),
            }
        }
    }
}

#[test]
fn forwards_other_names_where_it_can() {
    for name in ["example.com.", "talos.example.com.", ".", "1.1.9.10.in-addr.arpa."] {
        let message = request(name, RecordType::A);
        let decision = decide_from(CLIENT, &message, true);
        assert!(matches!(decision, Decision::Forward(query) if query == message.queries[0]));
        let Decision::Answer(answer) = decide_from(CLIENT, &message, false) else { panic!() };
        assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
        assert!(!answer.metadata.recursion_available && !answer.metadata.authoritative);
    }
    let mut without_recursion = request("example.com.", RecordType::A);
    without_recursion.metadata.recursion_desired = false;
    assert_eq!(code(&without_recursion), ResponseCode::Refused);
}

#[test]
fn passes_on_what_another_server_says() {
    let message = request("example.com.", RecordType::A);
    let request = Request::parse(&message.to_vec().unwrap()).unwrap();
    let ours = answer(&self::request("n11.talos.", RecordType::A)).answers;
    let theirs =
        Forwarded { answers: ours.clone(), code: ResponseCode::NoError, authorities: vec![] };
    let relayed = forwarded(&request, theirs);
    assert!(relayed.metadata.recursion_available && !relayed.metadata.authoritative);
    assert_eq!((relayed.metadata.id, &relayed.answers), (7, &ours));
    assert_eq!(relayed.queries, message.queries);
    let failed = forwarded(&request, Forwarded::failed());
    assert_eq!(failed.metadata.response_code, ResponseCode::ServFail);
}

#[test]
fn refuses_what_it_does_not_do() {
    let name = "n11.talos.";
    for class in [DNSClass::CH, DNSClass::HS, DNSClass::ANY, DNSClass::NONE] {
        let mut message = request("version.bind.", RecordType::TXT);
        message.queries[0].set_query_class(class);
        assert_eq!(code(&message), ResponseCode::Refused, "{class}");
    }
    for kind in [RecordType::AXFR, RecordType::IXFR, RecordType::OPT, RecordType::Unknown(249)] {
        assert_eq!(code(&request(name, kind)), ResponseCode::Refused, "{kind}");
        assert_eq!(code(&request("example.com.", kind)), ResponseCode::Refused, "{kind}");
    }
    for opcode in [OpCode::Status, OpCode::Notify, OpCode::Update, OpCode::Unknown(9)] {
        let mut message = request(name, RecordType::A);
        message.metadata.op_code = opcode;
        let answer = answer(&message);
        assert_eq!(answer.metadata.response_code, ResponseCode::NotImp, "{opcode}");
        assert_eq!(answer.metadata.op_code, opcode);
    }
    let mut newer = request(name, RecordType::A);
    let mut edns = Edns::new();
    edns.set_version(1);
    newer.set_edns(edns);
    let answer = answer(&newer);
    assert_eq!(answer.metadata.response_code, ResponseCode::BADVERS);
    assert_eq!(answer.edns.unwrap().version(), 0, "the version that we know");
    let mut two = request(name, RecordType::A);
    two.add_query(two.queries[0].clone());
    assert_eq!(code(&two), ResponseCode::FormErr);
}

#[test]
fn chooses_whom_to_ask() {
    let own = "10.9.0.1:53".parse().unwrap();
    let addresses = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect();
    let choose = |asked_for: &[&str], leased: &[&str]| {
        let (asked_for, leased): (Vec<_>, Vec<_>) = (addresses(asked_for), addresses(leased));
        let servers = forwarders(&asked_for, &leased, own);
        servers.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(choose(&["9.9.9.9", "9.9.9.9"], &["10.9.0.2"]), ["9.9.9.9"]);
    assert_eq!(choose(&[], &["10.9.0.2", "10.9.0.1", "10.9.0.3"]), ["10.9.0.2", "10.9.0.3"]);
    assert_eq!(choose(&["10.9.0.1"], &["10.9.0.2"]), [""; 0], "only ourselves");
    assert_eq!(choose(&["0.0.0.0", "224.0.0.1", "255.255.255.255"], &[]), [""; 0]);
    assert_eq!(choose(&["9.9.9.1", "9.9.9.2", "9.9.9.3", "9.9.9.4", "9.9.9.5"], &[]).len(), 4);
    let other_port = "10.9.0.1:5353".parse().unwrap();
    assert_eq!(forwarders(&[Ipv4Addr::new(10, 9, 0, 1)], &[], other_port).len(), 1);
}

#[test]
fn a_name_may_end_in_a_dot() {
    for text in ["controlplane.talos.", "Controlplane.Talos"] {
        assert_eq!(parse_name(text).unwrap().as_str(), "controlplane.talos");
    }
    assert!(parse_name(".").is_err() && parse_name("a..").is_err());
}

proptest! {
    #[test]
    fn any_question_gets_a_fitting_answer(
        labels in prop::collection::vec("[a-zA-Z0-9-]{1,12}", 0..6),
        below in prop::sample::select(vec!["talos.", "0.9.10.in-addr.arpa.", "com.", ""]),
        kind in any::<u16>(),
        edns in prop::option::of(any::<u16>()),
        client in any::<u32>(),
    ) {
        let name = format!("{}.{below}", labels.join("."));
        let Ok(name) = Name::from_ascii(name.trim_start_matches('.')) else { return Ok(()) };
        let mut message = request(".", RecordType::from(kind));
        message.queries[0].set_name(name);
        message.edns = edns.map(|size| {
            let mut edns = Edns::new();
            edns.set_max_payload(size);
            edns
        });
        let Some(request) = Request::parse(&message.to_vec().unwrap()) else { panic!() };
        let client = IpAddr::from(Ipv4Addr::from_bits(client));
        for client in [CLIENT, client] {
            let Decision::Answer(answer) = decide(&request, client, &zone(), &policy(true)) else {
                continue;
            };
            let bytes = request.encode(&answer, Transport::Udp);
            prop_assert!(bytes.len() <= usize::from(edns.unwrap_or(512).clamp(512, 1232)));
            let read = Message::from_vec(&bytes).unwrap();
            prop_assert!(read.metadata.truncation || read.answers == answer.answers);
        }
    }
}
