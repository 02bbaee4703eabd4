//! Boot options: what each kind of firmware is told, by the server, the proxy and the boot server.

use super::*;

/// What a reply says about booting: class, whether option 43 is there, and the boot file.
fn boot(message: &Message) -> (&[u8], bool, String) {
    let class = message.options.get(OptionCode::ClassIdentifier).unwrap_or_default();
    let bypass = message.options.get(OptionCode::VendorExtensions).is_some();
    let file = String::from_utf8_lossy(&message.file).into_owned();
    if file.is_empty() {
        assert_eq!(message.options.get(OptionCode::BootfileName), None);
        assert_eq!(message.siaddr, Ipv4Addr::UNSPECIFIED);
    } else {
        let option = message.options.get(OptionCode::BootfileName).unwrap();
        assert_eq!(option, format!("{file}\0").as_bytes());
        assert_eq!(message.options.get(OptionCode::TFTPServerName).unwrap(), b"192.168.123.1\0");
        assert_eq!((message.siaddr, &message.sname[..]), (SERVER, &b"192.168.123.1"[..]));
    }
    (class, bypass, file)
}

#[test]
fn each_firmware_is_told_to_boot_in_its_way() {
    let script = "http://192.168.123.1:8080/boot.ipxe";
    let loader = "http://192.168.123.1:8080/firmware/snponly.efi";
    let pxe = &b"PXEClient"[..];
    let http = &b"HTTPClient"[..];
    let undionly = "undionly.kpxe";
    for (name, options, from_server, from_proxy) in [
        ("bios", BIOS, (pxe, true, undionly), (pxe, true, undionly)),
        ("uefi", UEFI, (&b""[..], false, "snponly.efi"), (pxe, false, "snponly.efi")),
        ("uefi http", HTTP, (http, false, loader), (http, false, loader)),
        ("ipxe", IPXE, (&b""[..], false, script), (pxe, false, script)),
    ] {
        let expect =
            |(class, bypass, file): (&'static [u8], bool, &str)| (class, bypass, file.to_owned());
        let ack = lease(&mut server(), 0, ALICE, options);
        assert_eq!(boot(&ack), expect(from_server), "{name} from the server");
        let no_proxy = ack.options.get(IPXE_OPTIONS);
        assert_eq!(no_proxy.is_some(), name == "ipxe");

        let discover = message(MessageType::Discover, ALICE, options);
        let offer = proxy::answer(ingress(ALICE), &discover, &loaders()).unwrap();
        assert_eq!(boot(&offer.message), expect(from_proxy), "{name} from the proxy");
        assert_eq!(offer.message.kind, MessageType::Offer);
        assert_eq!(offer.message.yiaddr, Ipv4Addr::UNSPECIFIED);
        assert_eq!(offer.destination, SocketAddrV4::new(Ipv4Addr::BROADCAST, 68));
        assert_eq!(offer.message.options.seconds(OptionCode::AddressLeaseTime), None);
    }
}

#[test]
fn a_client_that_boots_nothing_gets_an_address_only() {
    let ack = lease(&mut server(), 0, ALICE, &[(60, b"udhcp 1.35.0")]);
    assert_eq!(boot(&ack), (&b""[..], false, String::new()));
    let arm = [(60, &b"PXEClient:Arch:00011"[..]), (93, &[0, 11])];
    let ack = lease(&mut server(), 0, ALICE, &arm);
    assert_eq!(boot(&ack), (&b""[..], false, String::new()));

    for (options, reason) in [
        (&[(60, &b"dhcpcd"[..])][..], Silence::NotBooting),
        (&[(55, &[67])], Silence::NotBooting),
        (&arm, Silence::NoBootFile(Architecture::UefiArm64)),
    ] {
        let discover = message(MessageType::Discover, ALICE, options);
        assert_eq!(proxy::answer(ingress(ALICE), &discover, &loaders()), Err(reason));
    }
}

#[test]
fn the_proxy_confirms_its_own_offer_and_leaves_leases_to_the_dhcp_server() {
    let request = |server: Ipv4Addr| {
        let mut request = message(MessageType::Request, ALICE, BIOS);
        request.options.append(OptionCode::ServerIdentifier, &server.octets());
        proxy::answer(ingress(ALICE), &request, &loaders())
    };
    let ack = request(SERVER).unwrap();
    assert_eq!((ack.message.kind, ack.message.yiaddr), (MessageType::Ack, Ipv4Addr::UNSPECIFIED));
    assert_eq!(request(RELAY), Err(Silence::OtherServer(RELAY)));
    for kind in [MessageType::Request, MessageType::Inform, MessageType::Release] {
        let answer = proxy::answer(ingress(ALICE), &message(kind, ALICE, BIOS), &loaders());
        assert_eq!(answer, Err(Silence::NoAnswer(kind)));
    }
}

#[test]
fn the_boot_server_answers_to_where_the_request_came_from() {
    let from = Ingress { mac: ALICE, source: SocketAddrV4::new(SECOND, 4011) };
    let mut request = message(MessageType::Request, ALICE, UEFI);
    request.ciaddr = SECOND;
    request.options.append(OptionCode::ClientMachineIdentifier, &[7; 17]);
    let ack = proxy::boot_server(from, &request, &loaders()).unwrap();
    assert_eq!((ack.mac, ack.destination), (ALICE, from.source));
    assert_eq!(boot(&ack.message), (&b"PXEClient"[..], false, "snponly.efi".into()));
    assert_eq!(ack.message.kind, MessageType::Ack);
    assert_eq!(ack.message.options.get(OptionCode::ClientMachineIdentifier), Some(&[7; 17][..]));

    let release = message(MessageType::Release, ALICE, UEFI);
    let silence = Err(Silence::NoAnswer(MessageType::Release));
    assert_eq!(proxy::boot_server(from, &release, &loaders()), silence);
}
