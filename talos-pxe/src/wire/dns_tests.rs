//! Tests of [`super`].

use std::net::Ipv4Addr;

use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use proptest::prelude::*;

use super::*;

/// A request for the addresses of `name`, with the UDP size that the client can take.
fn request(name: &str, edns: Option<u16>) -> Message {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
    if let Some(size) = edns {
        let mut edns = Edns::new();
        edns.set_max_payload(size).set_dnssec_ok(true);
        message.set_edns(edns);
    }
    message
}

fn parse(message: &Message) -> Request {
    Request::parse(&message.to_vec().unwrap()).unwrap()
}

/// An answer with that many addresses.
fn answer(request: &Request, addresses: u32) -> Message {
    let name = request.question.as_ref().unwrap().name.clone();
    let mut answer = request.reply(ResponseCode::NoError);
    answer.add_answers((0..addresses).map(|number| {
        Record::from_rdata(name.clone(), 60, RData::A(A(Ipv4Addr::from_bits(number))))
    }));
    answer
}

#[test]
fn says_nothing_to_answers_and_scraps() {
    let mut message = request("n1.talos.", None);
    let whole = message.to_vec().unwrap();
    assert!(Request::parse(&whole).is_some());
    for length in 0..Header::LEN {
        assert!(Request::parse(&whole[..length]).is_none(), "{length} bytes");
    }
    message.metadata.message_type = MessageType::Response;
    assert!(Request::parse(&message.to_vec().unwrap()).is_none());
}

#[test]
fn what_does_not_parse_keeps_its_header() {
    let whole = request("n1.talos.", None).to_vec().unwrap();
    let without_question = |bytes: &[u8]| {
        let request = Request::parse(bytes).unwrap();
        assert_eq!((request.metadata.id, request.question), (7, None));
    };
    for length in Header::LEN..whole.len() {
        without_question(&whole[..length]);
    }
    let mut two = request("n1.talos.", None);
    two.add_query(two.queries[0].clone());
    without_question(&two.to_vec().unwrap());
    let mut none = request("n1.talos.", None);
    none.queries.clear();
    without_question(&none.to_vec().unwrap());
    let mut update = request("n1.talos.", None);
    update.metadata.op_code = OpCode::Update;
    without_question(&update.to_vec().unwrap());
}

#[test]
fn a_reply_repeats_what_it_must() {
    let mut message = request("N1.taLOS.", Some(4096));
    message.metadata.recursion_desired = true;
    message.metadata.checking_disabled = true;
    message.metadata.authentic_data = true;
    let request = parse(&message);
    let bytes = request.encode(&request.reply(ResponseCode::NXDomain), Transport::Udp);
    let reply = Message::from_vec(&bytes).unwrap();
    assert_eq!(reply.metadata.id, 7);
    assert_eq!(reply.metadata.message_type, MessageType::Response);
    assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
    assert!(reply.metadata.recursion_desired && reply.metadata.checking_disabled);
    assert!(!reply.metadata.authentic_data && !reply.metadata.authoritative);
    assert_eq!(reply.queries[0].name.to_ascii(), "N1.taLOS.", "in the case of the request");
    let edns = reply.edns.unwrap();
    assert_eq!((edns.max_payload(), edns.version()), (MAX_UDP_ANSWER, 0));
    assert!(edns.flags().dnssec_ok);

    let plain = parse(&self::request("n1.talos.", None));
    assert_eq!(plain.reply(ResponseCode::NoError).edns, None);
}

#[test]
fn answers_have_the_size_that_the_client_can_take() {
    for (edns, limit) in
        [(None, 512), (Some(100), 512), (Some(600), 600), (Some(1232), 1232), (Some(4096), 1232)]
    {
        let request = parse(&request("n1.talos.", edns));
        let opt = if edns.is_some() { 11 } else { 0 };
        // The header and the question have 26 bytes, an address has 16.
        let fitting = (limit - 26 - opt) / 16;
        let encode = |addresses: usize, transport| {
            let addresses = u32::try_from(addresses).unwrap();
            let bytes = request.encode(&answer(&request, addresses), transport);
            (bytes.len(), Message::from_vec(&bytes).unwrap())
        };
        let (length, whole) = encode(fitting, Transport::Udp);
        assert_eq!((length, whole.answers.len()), (26 + opt + 16 * fitting, fitting), "{edns:?}");
        assert!(!whole.metadata.truncation);

        let (length, cut) = encode(fitting + 1, Transport::Udp);
        assert_eq!((length, cut.answers.len()), (26 + opt, 0), "{edns:?}");
        assert!(cut.metadata.truncation);
        assert_eq!((cut.queries.len(), cut.edns.is_some()), (1, edns.is_some()));

        let (_, by_tcp) = encode(2000, Transport::Tcp);
        assert_eq!((by_tcp.answers.len(), by_tcp.metadata.truncation), (2000, false));
        assert!(encode(5000, Transport::Tcp).1.metadata.truncation, "longer than any message");
    }
}

/// Bytes at random, and real requests with a few bytes changed.
fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    let damage = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    let damaged = (prop::option::of(any::<u16>()), damage).prop_map(|(edns, damage)| {
        let mut bytes = request("n1.rack-1.talos.", edns).to_vec().unwrap();
        for (place, byte) in damage {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        bytes
    });
    prop_oneof![prop::collection::vec(any::<u8>(), 0..600), damaged]
}

proptest! {
    #[test]
    fn any_bytes_get_an_answer_of_the_right_size_or_none(
        bytes in any_bytes(),
        addresses in 0u32..200,
    ) {
        let Some(request) = Request::parse(&bytes) else { return Ok(()) };
        let mut reply = request.reply(ResponseCode::NoError);
        reply.add_answers((0..addresses).map(|number| {
            let data = RData::A(A(Ipv4Addr::from_bits(number)));
            Record::from_rdata(Name::from_ascii("controlplane.talos.").unwrap(), 60, data)
        }));
        let encoded = request.encode(&reply, Transport::Udp);
        let limit = request.edns.as_ref().map_or(512, |edns| edns.max_payload().clamp(512, 1232));
        prop_assert!(encoded.len() >= Header::LEN && encoded.len() <= usize::from(limit));
        let read = Message::from_vec(&encoded).unwrap();
        prop_assert_eq!(read.metadata.id.to_be_bytes(), [bytes[0], bytes[1]]);
        prop_assert_eq!(read.metadata.message_type, MessageType::Response);
        prop_assert_eq!(read.queries.first(), request.question.as_ref());
        prop_assert!(read.metadata.truncation == read.answers.is_empty() || addresses == 0);
    }
}
