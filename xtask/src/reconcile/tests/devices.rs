//! What devices did besides serving descriptors.

use dsascope_core::model::EventLogAdvice;

use super::*;

#[test]
fn what_a_device_did_besides_must_be_told() {
    let acts = |change: fn(&mut DeviceActs)| found(move |books| books.acts.values_mut().for_each(change));
    assert_eq!(acts(|a| a.error_entries = 1), [], "the driver need not tell of it");
    let error = || "idxd 0000:00:11.0: Device error 0x1b operation: 0x3 fault addr: 0x0".to_owned();
    assert_eq!(found(|books| books.kernel.log.push(error())), [Rule::Device], "and dsascope has missed it");
    assert_eq!(acts(|a| a.halts = vec![ResetType::Cold]), [Rule::Device]);
    assert_eq!(acts(|a| a.unasked = 1), [], "the driver may have had a failure to tell");
    assert_eq!(acts(|a| a.commands = vec![(6, 1, 0)]), [], "given before dsascope was attached");
    assert_eq!(
        found(|books| traced(books).summary.contexts[0].totals.not_copied = 1).last(),
        Some(&Rule::Device)
    );
    let waited = |books: &mut Books, at_most_ns| {
        books.acts.values_mut().for_each(|a| a.waited_ns = 100);
        let log = EventLogAdvice { waited_at_most_ns: at_most_ns, ..event_log() };
        traced(books).summary.event_logs = vec![log];
    };
    assert_eq!(found(|books| waited(books, Some(90))), [Rule::Device]);
    assert_eq!(found(|books| waited(books, Some(99))), [], "within what two clocks may differ");
    assert_eq!(found(|books| waited(books, None)), [], "not known");
}

fn event_log() -> EventLogAdvice {
    let device = dsascope_core::event::DeviceInfo {
        device: "dsa0".parse().unwrap(),
        state: "enabled".into(),
        version: None,
        gen_cap: None,
        event_log_size: Some(64),
        pasid_enabled: None,
        numa_node: None,
        wqs: vec![],
    };
    let info = SessionInfo { devices: vec![device], ..SessionInfo::default() };
    let mut model = dsascope_core::model::Model::default();
    model.update(&dsascope_core::event::Event::Session(Box::new(info)));
    model.event_logs().next().unwrap()
}
