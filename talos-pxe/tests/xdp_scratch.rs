//! scratch
use bytemuck::Zeroable;
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use talos_pxe::decisions::dhcp::templates::Answers;
#[test]
#[ignore]
fn caps() {
    if std::env::var_os("ALL").is_none() {
        let kept = CapabilitySet::BPF | CapabilitySet::NET_ADMIN;
        let rights = CapabilitySets {
            effective: kept,
            permitted: kept,
            inheritable: CapabilitySet::empty(),
        };
        set_capabilities(None, rights).unwrap();
    }
    let answers = Answers { config: Zeroable::zeroed(), templates: Vec::new() };
    match talos_pxe::edges::xdp::Loaded::new(&answers, 16) {
        Ok(mut l) => println!(
            "ok {:?} jited {:?}",
            l.program("talos_pxe").unwrap().info().unwrap().verified_instruction_count(),
            l.program("talos_pxe").unwrap().info().unwrap().size_translated()
        ),
        Err(e) => println!("{e:#}"),
    }
}
